// What the models of the families' PLLs share: a clock of MULTIPLY / DIVIDE times the reference's
// frequency, locked after some of its cycles. It runs before, as a real one does, at a wrong rate.

module pll_model (input reference, output reg clock, output reg locked);
    parameter MULTIPLY = 1;
    parameter DIVIDE = 1;
    // Of the VCO: how many times faster than the output, and its range in MHz.
    parameter VCO = 1;
    parameter VCO_MIN = 1;
    parameter VCO_MAX = 10000;

    real last, period, half, mhz;
    integer edges;
    initial begin
        clock = 0;
        locked = 0;
        edges = 0;
        half = 50;
        forever #(half) clock = ~clock;
    end
    always @(posedge reference) begin
        period = $realtime - last;
        last = $realtime;
        edges = edges + 1;
        if (edges == 4) begin
            half = period * DIVIDE / MULTIPLY / 2;
            mhz = 500.0 / half * VCO;
            if (mhz < VCO_MIN || mhz > VCO_MAX) begin
                $display("PLL: a VCO of %0f MHz is outside of %0d to %0d", mhz, VCO_MIN, VCO_MAX);
                $finish;
            end
        end
        locked <= edges > 12;
    end
endmodule
