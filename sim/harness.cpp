// The simulated board: a Verilated engine with byte streams `rx` and `tx`, behind a small C interface.
//
// One call runs many cycles, so that what the caller's language costs is paid once a call. A cycle is: inputs are
// set and the model settles with the clock low, the handshakes are sampled, the clock rises. Bytes that the engine
// sends are kept here until they are read. Nothing depends on time or on the machine: the same calls give the same
// bytes in the same cycles.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "Vdrawbar.h"
#include "verilated.h"

// Verilator's own handlers end the process, which here is the user's Python: an error comes back as a code instead.
void vl_fatal(const char* file, int line, const char* scope, const char* message) {
    throw std::runtime_error(std::string(message) + " (" + scope + ", " + file + ":" +
                             std::to_string(line) + ")");
}
void vl_stop(const char* file, int line, const char* scope) {
    vl_fatal(file, line, scope, "$stop or an error in the design");
}
void vl_finish(const char* file, int line, const char* scope) {
    vl_fatal(file, line, scope, "$finish in the design");
}

namespace {

constexpr size_t kFailed = SIZE_MAX;

struct Board {
    VerilatedContext context;
    Vdrawbar top{&context, "drawbar"};
    std::vector<uint8_t> received;
    size_t taken = 0;  // how many of `received` the caller has
    uint64_t cycles = 0;
    // Stalls: a stream waits in a cycle where the next random byte is below its threshold (0: never).
    uint64_t random = 1;
    unsigned stall_rx = 0;
    unsigned stall_tx = 0;
    bool offered = false;  // a byte is on rx: a stream may not take it back
    // Pace: a byte takes so many cycles on its line. It is offered to rx in the last of them, and what tx gives in the
    // first of them is received in the last.
    uint64_t pace = 1;
    uint64_t rx_offers = 0;  // when the byte on the line to rx is offered; 0: none is on the line
    uint64_t tx_free = 0;    // when the line from tx takes the next byte
    bool tx_busy = false;    // a byte is on that line, and not received yet
    uint8_t tx_byte = 0;
    std::string error;

    uint8_t next_random() {  // xorshift64*
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        return static_cast<uint8_t>((random * 0x2545F4914F6CDD1DULL) >> 56);
    }

    // Registers start with their initial values, so that settling is all that a power-up takes.
    void power_up() {
        top.clk = 1;
        top.rx___05Fvalid = 0;
        top.tx___05Fready = 0;
        top.eval();
    }

    // Runs until all `n` bytes are accepted (`fill` false), or until `want` bytes wait to be read or, after the first
    // of them, `gap` cycles passed without another (`fill` true); at most `max_cycles` cycles. Returns the bytes accepted.
    template <bool SLOW, bool FILL>
    size_t advance(const uint8_t* data, size_t n, size_t want, uint64_t gap, uint64_t max_cycles) {
        size_t sent = 0;
        uint64_t quiet = 0;
        uint64_t cycle = 0;
        for (; cycle < max_cycles; ++cycle) {
            if (FILL) {
                const size_t waiting = received.size() - taken;
                if (waiting >= want || (waiting && quiet >= gap)) break;
            } else if (sent == n) {
                break;
            }
            bool valid = sent < n;
            bool ready = true;
            const uint64_t now = cycles + cycle;
            if (SLOW) {
                if (valid && !rx_offers) rx_offers = now + pace;
                valid = valid && now + 1 >= rx_offers && (offered || next_random() >= stall_rx);
                ready = now >= tx_free && next_random() >= stall_tx;
            }
            top.clk = 0;
            top.rx___05Fvalid = valid;
            if (valid) top.rx___05Fpayload = data[sent];
            top.tx___05Fready = ready;
            top.eval();
            const bool accepted = valid && top.rx___05Fready;
            sent += accepted;
            ++quiet;
            bool arrived = ready && top.tx___05Fvalid;
            uint8_t byte = top.tx___05Fpayload;
            if (SLOW) {
                offered = valid && !accepted;
                if (accepted) rx_offers = 0;
                if (arrived) {
                    tx_busy = true;
                    tx_byte = byte;
                    tx_free = now + pace;
                }
                arrived = tx_busy && now + 1 == tx_free;
                if (arrived) {
                    tx_busy = false;
                    byte = tx_byte;
                }
            }
            if (arrived) {
                received.push_back(byte);
                quiet = 0;
            }
            top.clk = 1;
            top.eval();
        }
        cycles += cycle;
        return sent;
    }

    bool slow() const { return stall_rx || stall_tx || pace > 1; }

    size_t take(uint8_t* out, size_t capacity) {
        const size_t n = std::min(capacity, received.size() - taken);
        if (n) std::memcpy(out, received.data() + taken, n);
        taken += n;
        if (taken == received.size()) {
            received.clear();
            taken = 0;
        }
        return n;
    }
};

// Runs `body`, turning an error of the model into a code and a text.
template <typename Body>
size_t guarded(Board* board, Body body) {
    try {
        return body();
    } catch (const std::exception& failure) {
        board->error = failure.what();
        return kFailed;
    }
}

}  // namespace

#define DRAWBAR_API extern "C" __attribute__((visibility("default")))

// A board after power-up; null where the model failed already.
DRAWBAR_API Board* drawbar_new() {
    Board* board = new Board;
    if (guarded(board, [&] { return board->power_up(), size_t{0}; }) == kFailed) {
        std::fprintf(stderr, "%s\n", board->error.c_str());
        delete board;
        return nullptr;
    }
    return board;
}

DRAWBAR_API void drawbar_free(Board* board) { delete board; }

// Sends bytes, one a cycle at most, for `max_cycles` cycles at most; returns how many were accepted.
DRAWBAR_API size_t drawbar_write(Board* board, const uint8_t* data, size_t n, uint64_t max_cycles) {
    return guarded(board, [&] {
        if (board->slow())
            return board->advance<true, false>(data, n, 0, 0, max_cycles);
        return board->advance<false, false>(data, n, 0, 0, max_cycles);
    });
}

// Returns received bytes. Runs the clock until `capacity` bytes are there, or until `gap` cycles passed after the latest
// of them; at most `max_cycles` cycles.
DRAWBAR_API size_t drawbar_read(Board* board, uint8_t* out, size_t capacity, uint64_t gap,
                                uint64_t max_cycles) {
    return guarded(board, [&] {
        if (board->slow())
            board->advance<true, true>(nullptr, 0, capacity, gap, max_cycles);
        else
            board->advance<false, true>(nullptr, 0, capacity, gap, max_cycles);
        return board->take(out, capacity);
    });
}

// Stalls both streams at random from now on: `rx` and `tx` of 256 cycles. The seed decides which.
DRAWBAR_API void drawbar_stalls(Board* board, uint64_t seed, unsigned rx, unsigned tx) {
    board->random = seed * 2 + 1;
    board->stall_rx = rx;
    board->stall_tx = tx;
}

// Each byte takes `cycles` cycles on its line from now on, as on a serial line; to be called while no byte is under way.
DRAWBAR_API void drawbar_pace(Board* board, uint64_t cycles) { board->pace = cycles; }

// Cycles since power-up.
DRAWBAR_API uint64_t drawbar_cycles(const Board* board) { return board->cycles; }

// What went wrong, after a call returned SIZE_MAX.
DRAWBAR_API const char* drawbar_error(const Board* board) { return board->error.c_str(); }
