// What the engine uses of the ECP5's blocks, after their documentation: the sysDSP Usage Guide for
// ECP5 and ECP5-5G (FPGA-TN-02205) for MULT18X18D, the Memory Usage Guide (FPGA-TN-02204) for
// DP16KD, the sysCLOCK PLL Design and User Guide (FPGA-TN-02200) for EHXPLLL and DCCA, the family's
// data sheet (FPGA-DS-02012) for the flip-flop of a slice. A mode that is not modelled stops the
// simulation.

module MULT18X18D (
    input CLK0, CE0, RST0, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17,
    input B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, B17,
    output P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17,
    output P18, P19, P20, P21, P22, P23, P24, P25, P26, P27, P28, P29, P30, P31, P32, P33, P34, P35
);
    parameter REG_INPUTA_CLK = "NONE";
    parameter REG_INPUTA_CE = "CE0";
    parameter REG_INPUTA_RST = "RST0";
    parameter REG_INPUTB_CLK = "NONE";
    parameter REG_INPUTB_CE = "CE0";
    parameter REG_INPUTB_RST = "RST0";
    parameter REG_PIPELINE_CLK = "NONE";
    parameter REG_PIPELINE_CE = "CE0";
    parameter REG_PIPELINE_RST = "RST0";
    parameter REG_OUTPUT_CLK = "NONE";
    parameter REG_OUTPUT_CE = "CE0";
    parameter REG_OUTPUT_RST = "RST0";

    wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    reg [17:0] a_reg = 0, b_reg = 0;
    reg [35:0] pipeline_reg = 0, output_reg = 0;
    always @(posedge CLK0)
        if (RST0) begin
            a_reg <= 0;
            b_reg <= 0;
            pipeline_reg <= 0;
            output_reg <= 0;
        end else if (CE0) begin
            a_reg <= a;
            b_reg <= b;
            pipeline_reg <= product;
            output_reg <= pipelined;
        end
    wire [17:0] a_in = REG_INPUTA_CLK == "NONE" ? a : a_reg;
    wire [17:0] b_in = REG_INPUTB_CLK == "NONE" ? b : b_reg;
    wire signed [18:0] a_wide = {SIGNEDA & a_in[17], a_in};
    wire signed [18:0] b_wide = {SIGNEDB & b_in[17], b_in};
    wire signed [37:0] whole = a_wide * b_wide;
    wire [35:0] product = whole[35:0];
    wire [35:0] pipelined = REG_PIPELINE_CLK == "NONE" ? product : pipeline_reg;
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
            P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0}
        = REG_OUTPUT_CLK == "NONE" ? pipelined : output_reg;
    always @(posedge CLK0)
        if (SOURCEA || SOURCEB) begin
            $display("MULT18X18D: operands from a neighbour are not modelled");
            $finish;
        end
endmodule

module DP16KD (
    input CLKA, CEA, OCEA, WEA, RSTA, CSA0, CSA1, CSA2,
    input CLKB, CEB, OCEB, WEB, RSTB, CSB0, CSB1, CSB2,
    input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
    input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
    input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13,
    input DIA14, DIA15, DIA16, DIA17,
    input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13,
    input DIB14, DIB15, DIB16, DIB17,
    output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13,
    output DOA14, DOA15, DOA16, DOA17,
    output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13,
    output DOB14, DOB15, DOB16, DOB17
);
    parameter DATA_WIDTH_A = 18;
    parameter DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG";
    parameter REGMODE_B = "NOREG";
    parameter RESETMODE = "SYNC";
    parameter ASYNC_RESET_RELEASE = "SYNC";
    parameter CSDECODE_A = "0b000";
    parameter CSDECODE_B = "0b000";
    parameter CLKAMUX = "CLKA";
    parameter CLKBMUX = "CLKB";
    parameter WRITEMODE_A = "NORMAL";
    parameter WRITEMODE_B = "NORMAL";
    parameter GSR = "AUTO";

    // Port A writes and port B reads words of the same width. Addresses are left-aligned; of words
    // of 18 and 36 bits the lowest bits of ADA enable the writes of nine bits each. Words of 36 bits
    // take the data pins of both ports.
    localparam SHIFT = DATA_WIDTH_A == 36 ? 5 : DATA_WIDTH_A == 18 ? 4 : DATA_WIDTH_A == 9 ? 3
        : DATA_WIDTH_A == 4 ? 2 : DATA_WIDTH_A == 2 ? 1 : 0;
    wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2,
                       ADA1, ADA0};
    wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2,
                       ADB1, ADB0};
    wire [35:0] dia = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6,
                       DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
                       DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7,
                       DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [35:0] enabled = DATA_WIDTH_A == 36 ? {{9{ADA3}}, {9{ADA2}}, {9{ADA1}}, {9{ADA0}}}
        : DATA_WIDTH_A == 18 ? {{9{ADA1}}, {9{ADA0}}} : (1 << DATA_WIDTH_A) - 1;
    reg [35:0] words [0:16383];
    reg [35:0] read = 0, read_reg = 0;
    integer n;
    initial for (n = 0; n < 16384; n = n + 1) words[n] = 0;
    wire selected_a = {CSA2, CSA1, CSA0} == 0;
    wire selected_b = {CSB2, CSB1, CSB0} == 0;
    always @(posedge CLKA)
        if (CEA && WEA && selected_a)
            words[ada >> SHIFT] <= dia & enabled | words[ada >> SHIFT] & ~enabled;
    always @(posedge CLKB) begin
        if (CEB && selected_b) read <= words[adb >> SHIFT];
        if (RSTB) read_reg <= 0;
        else if (OCEB) read_reg <= read;
        if (WEB || DATA_WIDTH_A != DATA_WIDTH_B || RESETMODE != "SYNC" && RSTB || CLKAMUX != "CLKA"
            || CLKBMUX != "CLKB" || CSDECODE_A != "0b000" || CSDECODE_B != "0b000") begin
            $display("DP16KD: this mode is not modelled");
            $finish;
        end
    end
    wire [35:0] out = REGMODE_B == "OUTREG" ? read_reg : read;
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
            DOA4, DOA3, DOA2, DOA1, DOA0} = out[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
            DOB4, DOB3, DOB2, DOB1, DOB0} = DATA_WIDTH_B == 36 ? out[35:18] : out[17:0];
endmodule

module TRELLIS_FF (input CLK, LSR, CE, DI, output reg Q);
    parameter GSR = "ENABLED";
    parameter CEMUX = "1";
    parameter CLKMUX = "CLK";
    parameter LSRMUX = "LSR";
    parameter REGSET = "RESET";
    parameter SRMODE = "LSR_OVER_CE";

    initial Q = REGSET == "SET";
    always @(posedge CLK)
        if (LSR) Q <= REGSET == "SET";
        else if (CE || CEMUX == "1") Q <= DI;
endmodule

module EHXPLLL (
    input CLKI, CLKFB, PHASESEL1, PHASESEL0, PHASEDIR, PHASESTEP, PHASELOADREG, STDBY, PLLWAKESYNC,
    input RST, ENCLKOP, ENCLKOS, ENCLKOS2, ENCLKOS3,
    output CLKOP, CLKOS, CLKOS2, CLKOS3, LOCK, INTLOCK, REFCLK, CLKINTFB
);
    parameter CLKI_DIV = 1;
    parameter CLKFB_DIV = 1;
    parameter CLKOP_DIV = 8;
    parameter CLKOP_ENABLE = "ENABLED";
    parameter CLKOP_CPHASE = 0;
    parameter CLKOP_FPHASE = 0;
    parameter FEEDBK_PATH = "CLKOP";
    parameter OUTDIVIDER_MUXA = "DIVA";
    parameter OUTDIVIDER_MUXB = "DIVB";
    parameter OUTDIVIDER_MUXC = "DIVC";
    parameter OUTDIVIDER_MUXD = "DIVD";
    parameter STDBY_ENABLE = "DISABLED";
    parameter DPHASE_SOURCE = "DISABLED";
    parameter PLLRST_ENA = "DISABLED";
    parameter INTFB_WAKE = "DISABLED";

    // The output is fed back, so that its divider only sets the VCO's frequency.
    pll_model #(
        .MULTIPLY(CLKFB_DIV), .DIVIDE(CLKI_DIV), .VCO(CLKOP_DIV), .VCO_MIN(400), .VCO_MAX(800)
    ) model (CLKI, CLKOP, LOCK);
    initial #1
        if (FEEDBK_PATH != "CLKOP" || CLKOP_ENABLE != "ENABLED" || OUTDIVIDER_MUXA != "DIVA"
            || CLKOP_CPHASE != CLKOP_DIV - 1 || CLKOP_FPHASE != 0 || PLLRST_ENA != "DISABLED"
            || STDBY_ENABLE != "DISABLED" || DPHASE_SOURCE != "DISABLED") begin
            $display("EHXPLLL: this mode is not modelled");
            $finish;
        end
    always @(CLKOP or CLKFB)
        if (LOCK && CLKFB !== CLKOP) begin
            $display("EHXPLLL: the feedback is not its output");
            $finish;
        end
endmodule

// A clock gate: the enable is taken over while the clock is low.
module DCCA (input CLKI, CE, output CLKO);
    reg enabled = 0;
    always @(CLKI or CE) if (!CLKI) enabled = CE;
    assign CLKO = CLKI & enabled;
endmodule
