// What the engine uses of Gowin's blocks and yosys has no model of, after the vendor's user guides:
// BSRAM & SSRAM (UG285) for block RAM, DSP (UG287) for multipliers, Clock (UG286) for rPLL.
// A mode that is not modelled stops the simulation.

`define INIT_PARAMETERS \
    parameter INIT_RAM_00 = ZERO, INIT_RAM_01 = ZERO, INIT_RAM_02 = ZERO, INIT_RAM_03 = ZERO; \
    parameter INIT_RAM_04 = ZERO, INIT_RAM_05 = ZERO, INIT_RAM_06 = ZERO, INIT_RAM_07 = ZERO; \
    parameter INIT_RAM_08 = ZERO, INIT_RAM_09 = ZERO, INIT_RAM_0A = ZERO, INIT_RAM_0B = ZERO; \
    parameter INIT_RAM_0C = ZERO, INIT_RAM_0D = ZERO, INIT_RAM_0E = ZERO, INIT_RAM_0F = ZERO; \
    parameter INIT_RAM_10 = ZERO, INIT_RAM_11 = ZERO, INIT_RAM_12 = ZERO, INIT_RAM_13 = ZERO; \
    parameter INIT_RAM_14 = ZERO, INIT_RAM_15 = ZERO, INIT_RAM_16 = ZERO, INIT_RAM_17 = ZERO; \
    parameter INIT_RAM_18 = ZERO, INIT_RAM_19 = ZERO, INIT_RAM_1A = ZERO, INIT_RAM_1B = ZERO; \
    parameter INIT_RAM_1C = ZERO, INIT_RAM_1D = ZERO, INIT_RAM_1E = ZERO, INIT_RAM_1F = ZERO; \
    parameter INIT_RAM_20 = ZERO, INIT_RAM_21 = ZERO, INIT_RAM_22 = ZERO, INIT_RAM_23 = ZERO; \
    parameter INIT_RAM_24 = ZERO, INIT_RAM_25 = ZERO, INIT_RAM_26 = ZERO, INIT_RAM_27 = ZERO; \
    parameter INIT_RAM_28 = ZERO, INIT_RAM_29 = ZERO, INIT_RAM_2A = ZERO, INIT_RAM_2B = ZERO; \
    parameter INIT_RAM_2C = ZERO, INIT_RAM_2D = ZERO, INIT_RAM_2E = ZERO, INIT_RAM_2F = ZERO; \
    parameter INIT_RAM_30 = ZERO, INIT_RAM_31 = ZERO, INIT_RAM_32 = ZERO, INIT_RAM_33 = ZERO; \
    parameter INIT_RAM_34 = ZERO, INIT_RAM_35 = ZERO, INIT_RAM_36 = ZERO, INIT_RAM_37 = ZERO; \
    parameter INIT_RAM_38 = ZERO, INIT_RAM_39 = ZERO, INIT_RAM_3A = ZERO, INIT_RAM_3B = ZERO; \
    parameter INIT_RAM_3C = ZERO, INIT_RAM_3D = ZERO, INIT_RAM_3E = ZERO, INIT_RAM_3F = ZERO;
`define INIT_VALUE { \
    INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, \
    INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38, \
    INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, \
    INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30, \
    INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, \
    INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, \
    INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, \
    INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, \
    INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, \
    INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, \
    INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, \
    INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, \
    INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, \
    INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, \
    INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, \
    INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00}

// Two multipliers of 9 x 9 bits, or one of 18 x 18, with all of their registers.
module gowin_multiplier (A, B, ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET, DOUT);
    parameter WIDTH = 18;
    parameter AREG = 0, BREG = 0, ASIGN_REG = 0, BSIGN_REG = 0, PIPE_REG = 0, OUT_REG = 0;
    input [WIDTH-1:0] A, B;
    input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET;
    output [2*WIDTH-1:0] DOUT;

    reg [WIDTH-1:0] a_reg = 0, b_reg = 0;
    reg a_sign_reg = 0, b_sign_reg = 0;
    reg [2*WIDTH-1:0] pipe_reg = 0, out_reg = 0;
    wire [WIDTH-1:0] a = AREG ? a_reg : A;
    wire [WIDTH-1:0] b = BREG ? b_reg : B;
    wire a_sign = ASIGN_REG ? a_sign_reg : ASIGN;
    wire b_sign = BSIGN_REG ? b_sign_reg : BSIGN;
    wire signed [WIDTH:0] a_wide = {a_sign & a[WIDTH-1], a};
    wire signed [WIDTH:0] b_wide = {b_sign & b[WIDTH-1], b};
    wire signed [2*WIDTH+1:0] product = a_wide * b_wide;
    wire [2*WIDTH-1:0] pipe = PIPE_REG ? pipe_reg : product[2*WIDTH-1:0];
    assign DOUT = OUT_REG ? out_reg : pipe;
    always @(posedge CLK)
        if (RESET) begin
            a_reg <= 0;
            b_reg <= 0;
            a_sign_reg <= 0;
            b_sign_reg <= 0;
            pipe_reg <= 0;
            out_reg <= 0;
        end else if (CE) begin
            a_reg <= A;
            b_reg <= B;
            a_sign_reg <= ASIGN;
            b_sign_reg <= BSIGN;
            pipe_reg <= product[2*WIDTH-1:0];
            out_reg <= pipe;
        end
    initial #1
        if (ASEL || BSEL) begin
            $display("MULT: operands from a neighbour are not modelled");
            $finish;
        end
endmodule

module MULT9X9 (A, SIA, B, SIB, ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET, DOUT, SOA, SOB);
    input [8:0] A, SIA, B, SIB;
    input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET;
    output [17:0] DOUT;
    output [8:0] SOA, SOB;
    parameter AREG = 0, BREG = 0, ASIGN_REG = 0, BSIGN_REG = 0, PIPE_REG = 0, OUT_REG = 0;
    parameter SOA_REG = 0;
    parameter MULT_RESET_MODE = "SYNC";
    gowin_multiplier #(
        .WIDTH(9), .AREG(AREG), .BREG(BREG), .ASIGN_REG(ASIGN_REG), .BSIGN_REG(BSIGN_REG),
        .PIPE_REG(PIPE_REG), .OUT_REG(OUT_REG)
    ) multiplier (A, B, ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET, DOUT);
endmodule

module MULT18X18 (A, SIA, B, SIB, ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET, DOUT, SOA, SOB);
    input [17:0] A, SIA, B, SIB;
    input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET;
    output [35:0] DOUT;
    output [17:0] SOA, SOB;
    parameter AREG = 0, BREG = 0, ASIGN_REG = 0, BSIGN_REG = 0, PIPE_REG = 0, OUT_REG = 0;
    parameter SOA_REG = 0;
    parameter MULT_RESET_MODE = "SYNC";
    gowin_multiplier #(
        .WIDTH(18), .AREG(AREG), .BREG(BREG), .ASIGN_REG(ASIGN_REG), .BSIGN_REG(BSIGN_REG),
        .PIPE_REG(PIPE_REG), .OUT_REG(OUT_REG)
    ) multiplier (A, B, ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET, DOUT);
endmodule

// A block of RAM: words out of `bits`, of which each 8 or 9 have an enable where a word has
// several. Addresses are left-aligned; the lowest bits of those of wide words are the enables.
module gowin_ram (
    CLKA, CEA, WREA, OCEA, RESETA, ADA, DIA, DOA, BLKSELA,
    CLKB, CEB, WREB, OCEB, RESETB, ADB, DIB, DOB, BLKSELB
);
    parameter BITS = 18432;
    parameter INIT = 0;
    parameter WIDTH_A = 36, WIDTH_B = 36;
    parameter PIPELINED_A = 0, PIPELINED_B = 0;
    // 0: the output keeps its word; 1: it gets the new one; 2: it gets the old one.
    parameter WRITE_MODE_A = 0, WRITE_MODE_B = 0;
    parameter BLK_SEL_A = 0, BLK_SEL_B = 0;
    parameter RESET_MODE = "SYNC";
    input CLKA, CEA, WREA, OCEA, RESETA, CLKB, CEB, WREB, OCEB, RESETB;
    input [13:0] ADA, ADB;
    input [2:0] BLKSELA, BLKSELB;
    input [WIDTH_A-1:0] DIA;
    input [WIDTH_B-1:0] DIB;
    output [WIDTH_A-1:0] DOA;
    output [WIDTH_B-1:0] DOB;

    localparam BYTE = BITS == 18432 ? 9 : 8;
    reg [BITS-1:0] bits = INIT;
    reg [WIDTH_A-1:0] read_a = 0, out_a = 0, mask_a;
    reg [WIDTH_B-1:0] read_b = 0, out_b = 0, mask_b;
    integer n;
    // Words of 8 or 9 bits are at every eighth address.
    wire [17:0] at_a = WIDTH_A < 8 ? ADA / WIDTH_A * WIDTH_A
        : ADA / (WIDTH_A / BYTE * 8) * WIDTH_A;
    wire [17:0] at_b = WIDTH_B < 8 ? ADB / WIDTH_B * WIDTH_B
        : ADB / (WIDTH_B / BYTE * 8) * WIDTH_B;
    always @(ADA) for (n = 0; n < WIDTH_A; n = n + 1)
        mask_a[n] = WIDTH_A <= 9 || ADA[n / BYTE];
    always @(ADB) for (n = 0; n < WIDTH_B; n = n + 1)
        mask_b[n] = WIDTH_B <= 9 || ADB[n / BYTE];
    wire [WIDTH_A-1:0] old_a = bits[at_a +: WIDTH_A];
    wire [WIDTH_B-1:0] old_b = bits[at_b +: WIDTH_B];
    wire [WIDTH_A-1:0] new_a = DIA & mask_a | old_a & ~mask_a;
    wire [WIDTH_B-1:0] new_b = DIB & mask_b | old_b & ~mask_b;
    always @(posedge CLKA)
        if (CEA && BLKSELA == BLK_SEL_A) begin
            if (WREA) bits[at_a +: WIDTH_A] <= new_a;
            if (!WREA || WRITE_MODE_A == 2) read_a <= old_a;
            else if (WRITE_MODE_A == 1) read_a <= new_a;
        end
    always @(posedge CLKB)
        if (CEB && BLKSELB == BLK_SEL_B) begin
            if (WREB) bits[at_b +: WIDTH_B] <= new_b;
            if (!WREB || WRITE_MODE_B == 2) read_b <= old_b;
            else if (WRITE_MODE_B == 1) read_b <= new_b;
        end
    always @(posedge CLKA) if (OCEA) out_a <= read_a;
    always @(posedge CLKB) if (OCEB) out_b <= read_b;
    assign DOA = PIPELINED_A ? out_a : read_a;
    assign DOB = PIPELINED_B ? out_b : read_b;
    always @(RESETA or RESETB)
        if (RESETA === 1 || RESETB === 1) begin
            $display("Block RAM: a reset is not modelled");
            $finish;
        end
endmodule

module SDPB (CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, ADA, ADB, DI, BLKSELA, BLKSELB, DO);
    parameter ZERO = 256'b0;
    parameter READ_MODE = 0, BIT_WIDTH_0 = 32, BIT_WIDTH_1 = 32, BLK_SEL_0 = 0, BLK_SEL_1 = 0;
    parameter RESET_MODE = "SYNC";
    `INIT_PARAMETERS
    input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB;
    input [13:0] ADA, ADB;
    input [31:0] DI;
    input [2:0] BLKSELA, BLKSELB;
    output [31:0] DO;
    // Port A writes whenever it is enabled, and port B reads.
    wire [BIT_WIDTH_0-1:0] unread;
    wire [BIT_WIDTH_1-1:0] data;
    assign DO = data;
    gowin_ram #(
        .BITS(16384), .INIT(`INIT_VALUE), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1),
        .PIPELINED_B(READ_MODE), .BLK_SEL_A(BLK_SEL_0), .BLK_SEL_B(BLK_SEL_1)
    ) ram (
        CLKA, CEA, 1'b1, 1'b1, RESETA, ADA, DI[BIT_WIDTH_0-1:0], unread, BLKSELA,
        CLKB, CEB, 1'b0, OCE, RESETB, ADB, {BIT_WIDTH_1{1'b0}}, data, BLKSELB
    );
endmodule

module SDPX9B (CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, ADA, ADB, DI, BLKSELA, BLKSELB, DO);
    parameter ZERO = 288'b0;
    parameter READ_MODE = 0, BIT_WIDTH_0 = 36, BIT_WIDTH_1 = 36, BLK_SEL_0 = 0, BLK_SEL_1 = 0;
    parameter RESET_MODE = "SYNC";
    `INIT_PARAMETERS
    input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB;
    input [13:0] ADA, ADB;
    input [35:0] DI;
    input [2:0] BLKSELA, BLKSELB;
    output [35:0] DO;
    // Port A writes whenever it is enabled, and port B reads.
    wire [BIT_WIDTH_0-1:0] unread;
    wire [BIT_WIDTH_1-1:0] data;
    assign DO = data;
    gowin_ram #(
        .BITS(18432), .INIT(`INIT_VALUE), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1),
        .PIPELINED_B(READ_MODE), .BLK_SEL_A(BLK_SEL_0), .BLK_SEL_B(BLK_SEL_1)
    ) ram (
        CLKA, CEA, 1'b1, 1'b1, RESETA, ADA, DI[BIT_WIDTH_0-1:0], unread, BLKSELA,
        CLKB, CEB, 1'b0, OCE, RESETB, ADB, {BIT_WIDTH_1{1'b0}}, data, BLKSELB
    );
endmodule

module DPB (
    CLKA, CEA, WREA, OCEA, RESETA, ADA, DIA, DOA, BLKSELA,
    CLKB, CEB, WREB, OCEB, RESETB, ADB, DIB, DOB, BLKSELB
);
    parameter ZERO = 256'b0;
    parameter READ_MODE0 = 0, READ_MODE1 = 0, WRITE_MODE0 = 0, WRITE_MODE1 = 0;
    parameter BIT_WIDTH_0 = 16, BIT_WIDTH_1 = 16, BLK_SEL_0 = 0, BLK_SEL_1 = 0;
    parameter RESET_MODE = "SYNC";
    `INIT_PARAMETERS
    input CLKA, CEA, WREA, OCEA, RESETA, CLKB, CEB, WREB, OCEB, RESETB;
    input [13:0] ADA, ADB;
    input [15:0] DIA, DIB;
    input [2:0] BLKSELA, BLKSELB;
    output [15:0] DOA, DOB;
    wire [BIT_WIDTH_0-1:0] data_a;
    wire [BIT_WIDTH_1-1:0] data_b;
    assign DOA = data_a, DOB = data_b;
    gowin_ram #(
        .BITS(16384), .INIT(`INIT_VALUE), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1),
        .PIPELINED_A(READ_MODE0), .PIPELINED_B(READ_MODE1), .WRITE_MODE_A(WRITE_MODE0),
        .WRITE_MODE_B(WRITE_MODE1), .BLK_SEL_A(BLK_SEL_0), .BLK_SEL_B(BLK_SEL_1)
    ) ram (
        CLKA, CEA, WREA, OCEA, RESETA, ADA, DIA[BIT_WIDTH_0-1:0], data_a, BLKSELA,
        CLKB, CEB, WREB, OCEB, RESETB, ADB, DIB[BIT_WIDTH_1-1:0], data_b, BLKSELB
    );
endmodule

module DPX9B (
    CLKA, CEA, WREA, OCEA, RESETA, ADA, DIA, DOA, BLKSELA,
    CLKB, CEB, WREB, OCEB, RESETB, ADB, DIB, DOB, BLKSELB
);
    parameter ZERO = 288'b0;
    parameter READ_MODE0 = 0, READ_MODE1 = 0, WRITE_MODE0 = 0, WRITE_MODE1 = 0;
    parameter BIT_WIDTH_0 = 18, BIT_WIDTH_1 = 18, BLK_SEL_0 = 0, BLK_SEL_1 = 0;
    parameter RESET_MODE = "SYNC";
    `INIT_PARAMETERS
    input CLKA, CEA, WREA, OCEA, RESETA, CLKB, CEB, WREB, OCEB, RESETB;
    input [13:0] ADA, ADB;
    input [17:0] DIA, DIB;
    input [2:0] BLKSELA, BLKSELB;
    output [17:0] DOA, DOB;
    wire [BIT_WIDTH_0-1:0] data_a;
    wire [BIT_WIDTH_1-1:0] data_b;
    assign DOA = data_a, DOB = data_b;
    gowin_ram #(
        .BITS(18432), .INIT(`INIT_VALUE), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1),
        .PIPELINED_A(READ_MODE0), .PIPELINED_B(READ_MODE1), .WRITE_MODE_A(WRITE_MODE0),
        .WRITE_MODE_B(WRITE_MODE1), .BLK_SEL_A(BLK_SEL_0), .BLK_SEL_B(BLK_SEL_1)
    ) ram (
        CLKA, CEA, WREA, OCEA, RESETA, ADA, DIA[BIT_WIDTH_0-1:0], data_a, BLKSELA,
        CLKB, CEB, WREB, OCEB, RESETB, ADB, DIB[BIT_WIDTH_1-1:0], data_b, BLKSELB
    );
endmodule

module rPLL (
    input CLKIN, CLKFB, RESET, RESET_P,
    input [5:0] FBDSEL, IDSEL, ODSEL,
    input [3:0] PSDA, FDLY, DUTYDA,
    output CLKOUT, LOCK, CLKOUTP, CLKOUTD, CLKOUTD3
);
    parameter FCLKIN = "100.0";
    parameter DYN_IDIV_SEL = "false", DYN_FBDIV_SEL = "false", DYN_ODIV_SEL = "false";
    parameter IDIV_SEL = 0, FBDIV_SEL = 0, ODIV_SEL = 8;
    parameter PSDA_SEL = "0000", DYN_DA_EN = "false", DUTYDA_SEL = "1000";
    parameter CLKOUT_FT_DIR = 1'b1, CLKOUTP_FT_DIR = 1'b1;
    parameter CLKOUT_DLY_STEP = 0, CLKOUTP_DLY_STEP = 0;
    parameter CLKFB_SEL = "internal";
    parameter CLKOUT_BYPASS = "false", CLKOUTP_BYPASS = "false", CLKOUTD_BYPASS = "false";
    parameter DYN_SDIV_SEL = 2;
    parameter CLKOUTD_SRC = "CLKOUT", CLKOUTD3_SRC = "CLKOUT";
    parameter DEVICE = "GW1N-1";

    // The output is fed back, so that its divider only sets the VCO's frequency.
    pll_model #(
        .MULTIPLY(FBDIV_SEL + 1), .DIVIDE(IDIV_SEL + 1), .VCO(ODIV_SEL), .VCO_MIN(400),
        .VCO_MAX(1250)
    ) model (CLKIN, CLKOUT, LOCK);
    initial #1
        if (CLKFB_SEL != "internal" || CLKOUT_BYPASS != "false" || DYN_IDIV_SEL != "false"
            || DYN_FBDIV_SEL != "false" || DYN_ODIV_SEL != "false" || RESET || RESET_P) begin
            $display("rPLL: this mode is not modelled");
            $finish;
        end
endmodule
