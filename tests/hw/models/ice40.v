// What the engine uses of the iCE40 UltraPlus and yosys has no model of, after the iCE40 sysCLOCK
// PLL Design and User Guide (FPGA-TN-02052) and the UltraPlus family's data sheet (FPGA-DS-02008).
// A mode that is not modelled stops the simulation.

module SB_PLL40_PAD (
    input PACKAGEPIN, EXTFEEDBACK, BYPASS, RESETB, LATCHINPUTVALUE, SDI, SCLK,
    input [7:0] DYNAMICDELAY,
    output PLLOUTCORE, PLLOUTGLOBAL, LOCK, SDO
);
    parameter FEEDBACK_PATH = "SIMPLE";
    parameter DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED";
    parameter DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED";
    parameter SHIFTREG_DIV_MODE = 1'b0;
    parameter FDA_FEEDBACK = 4'b0000;
    parameter FDA_RELATIVE = 4'b0000;
    parameter PLLOUT_SELECT = "GENCLK";
    parameter DIVR = 4'b0000;
    parameter DIVF = 7'b0000000;
    parameter DIVQ = 3'b000;
    parameter FILTER_RANGE = 3'b000;
    parameter ENABLE_ICEGATE = 1'b0;
    parameter TEST_MODE = 1'b0;
    parameter EXTERNAL_DIVIDE_FACTOR = 1;

    // Of the feedback path SIMPLE: the VCO is fed back through DIVF, and the output is the VCO's
    // behind DIVQ.
    pll_model #(
        .MULTIPLY(DIVF + 1), .DIVIDE((DIVR + 1) << DIVQ), .VCO(1 << DIVQ),
        .VCO_MIN(533), .VCO_MAX(1066)
    ) model (PACKAGEPIN, PLLOUTCORE, LOCK);
    assign PLLOUTGLOBAL = PLLOUTCORE;
    initial #1
        if (FEEDBACK_PATH != "SIMPLE" || PLLOUT_SELECT != "GENCLK" || !RESETB || BYPASS) begin
            $display("SB_PLL40_PAD: this mode is not modelled");
            $finish;
        end
endmodule
