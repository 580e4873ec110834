"""Loops of compiled kernels are found by control flow, whatever the order of basic blocks in the text."""

from assembly import Loop, kinds_of_loops, tile_loops

STRAIGHT = """
$L__BB0_1:
	setp.lt.s32 	%p1, %r1, %r2;
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1}, {%r3}, {%r4}, {%f1};
	selp.b32 	%r5, %r6, %r7, %p1;
	@%p1 bra 	$L__BB0_1;
	ret;
"""
# A loop over runs around two loops over tiles; the second begins with its last block, and waits in a loop of its own.
NESTED = """
	bra.uni 	$L__BB0_2;
$L__BB0_1:
	wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%f1}, %rd1, %rd2;
	setp.lt.s32 	%p1, %r1, %r2;
	@%p1 bra 	$L__BB0_1;
	bra.uni 	$L__BB0_4;
$L__BB0_2:
	mul.lo.s32 	%r1, %r2, %r3;
	@%p4 bra 	$L__BB0_6;
	bra.uni 	$L__BB0_1;
$L__BB0_3:
	wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%f2}, %rd1, %rd2;
	wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%f2}, %rd1, %rd2;
	bra.uni 	$L__BB0_5;
$L__BB0_4:
	selp.b32 	%r5, %r6, %r7, %p1;
$L__BB0_5:
	@%p9 bra 	$L__BB0_5;
	setp.eq.s32 	%p2, %r1, %r2;
	@%p2 bra 	$L__BB0_3;
	bra.uni 	$L__BB0_2;
$L__BB0_6:
	ret;
"""
# A loop that begins with a wait, and ends with a branch that is always taken.
MACHINE = """
        /*00f0*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0100*/                   WARPGROUP.DEPBAR.LE gsb0, 0x0 ;
        /*0110*/              @!P0 BRA `(.L_x_2) ;
        /*0120*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR12], R24, gsb0 ;
        /*0130*/                   BRA.U UP0, `(.L_x_1) ;
        /*0140*/                   MOV R1, R2 ;
        /*0150*/                   BRA `(.L_x_1) ;
.L_x_2:
        /*0160*/                   EXIT ;
"""
# A loop whose wait is behind the end of the program, which is the only way into it.
APART = """
.L_x_1:
        /*0100*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R1 ;
        /*0110*/              @!P0 BRA `(.L_x_2) ;
.L_x_3:
        /*0120*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR12], R24, gsb0 ;
        /*0130*/               @P1 BRA `(.L_x_1) ;
.L_x_4:
        /*0140*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR12], R24, gsb0 ;
        /*0150*/               @P2 BRA `(.L_x_4) ;
        /*0160*/               @P3 EXIT ;
        /*0170*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0180*/                   EXIT ;
.L_x_2:
        /*0190*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R1 ;
        /*01a0*/              @!P0 BRA `(.L_x_2) ;
        /*01b0*/                   BRA `(.L_x_3) ;
"""
AMD = """
.LBB0_1:
	v_mfma_f32_16x16x16_bf16 a[0:3], v[0:1], v[2:3], a[0:3]
	v_cmp_lt_i32_e32 vcc, v0, v1
	v_cndmask_b32_e32 v2, v3, v4, vcc
	s_cbranch_scc1 .LBB0_1
	s_endpgm
"""
# Two loops in one, each behind a branch that is always taken and a label that nothing jumps to.
DEBUGGED = """
.LBB0_1:
	s_cbranch_scc1 .LBB0_3
	s_branch .LBB0_2
.Ltmp1:
.LBB0_2:
	v_mfma_f32_16x16x16_bf16 a[0:3], v[0:1], v[2:3], a[0:3]
	s_cbranch_scc1 .LBB0_2
	s_branch .LBB0_5
.Ltmp2:
.LBB0_4:
	s_add_i32 s1, s1, 1
.LBB0_5:
	v_mfma_f32_16x16x16_bf16 a[4:7], v[0:1], v[2:3], a[4:7]
	s_cbranch_scc1 .LBB0_4
	s_cbranch_scc1 .LBB0_1
.LBB0_3:
	s_endpgm
"""


def test_one_loop() -> None:
    assert tile_loops(STRAIGHT) == (Loop(4, 1, ("mma.sync",), 1, 1),)
    assert tile_loops(AMD) == (Loop(4, 1, ("v_mfma",), 1, 1),)
    assert tile_loops(MACHINE) == (Loop(6, 1, ("HGMMA",), 0, 0),)


def test_a_loop_ends_where_the_program_does() -> None:
    assert [each.instructions for each in tile_loops(APART)] == [7, 2]


def test_innermost_loops_with_matrix_instructions() -> None:
    first, second = tile_loops(NESTED)
    assert first == Loop(3, 1, ("wgmma.mma_async",), 1, 0)
    assert second == Loop(6, 2, ("wgmma.mma_async",), 1, 0)


def test_labels_for_debuggers_enter_no_loop() -> None:
    first, second = tile_loops(DEBUGGED)
    assert (first.instructions, second.instructions) == (2, 3)


def test_kinds_of_instructions() -> None:
    """Whatever predicate stands before them; a wait for copies is a barrier, and a shuffle between threads a copy."""
    lines = (
        *(
            "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR12], R24",
            "MUFU.EX2 R1, R2",
            "LDGDEPBAR",
            "BAR.SYNC.DEFER_BLOCKING 0x0",
        ),
        *(
            "@P0 LDGSTS.E.BYPASS.128 [R1], desc[UR4][R2.64]",
            "SHFL.BFLY PT, R1, R2, 0x1, 0x1f",
            "@!UP1 UIADD3 UR4, UR5, 0x1",
        ),
        *(
            "FFMA R1, R2, R3, R4",
            "FSEL R1, R2, -INF , P0",
            "IMAD.MOV.U32 R1, RZ, RZ, R2",
            "ISETP.GE.AND P0, PT, R1, R2, PT",
        ),
    )
    text = ".L_x_1:\n" + "".join(f"        /*0100*/                   {line} ;\n" for line in lines)
    text += "        /*0200*/              @P0 BRA `(.L_x_1) ;\n"
    kinds = {"products": 1, "exponentials": 1, "barriers": 2, "copies": 2, "integers": 3, "floats": 2, "other": 1}
    assert kinds_of_loops(text) == [kinds]
    assert kinds_of_loops(AMD) == [{"products": 1, "integers": 2, "other": 1}]


def test_no_loop() -> None:
    assert tile_loops("") == tile_loops(STRAIGHT.replace("@%p1 bra", "// ")) == ()
