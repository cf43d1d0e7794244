/* The peak that mfu is of: cards known by name, parts of cards, and architectures. */
#include "kernels/cuda/peak.h"
#include "tests/support/check_err.h"

#include <math.h>

/* The peak in TFLOP/s, and where it must come from. */
static double teraflops(GpuSpeed gpu, const char *wanted_source)
{
    char source[64];
    double flops = cuda_peak_flops(&gpu, source, sizeof(source));
    assert_string_equal(source, wanted_source);
    return flops * 1e-12;
}

static double of_name(const char *name)
{
    return teraflops((GpuSpeed){name, 80, 1, 1000}, "data sheet");
}

static void known_cards_have_the_data_sheets_number(void **state)
{
    (void)state;
    assert_true(of_name("NVIDIA H200") == 989.4);
    assert_true(of_name("NVIDIA H100 80GB HBM3") == 989.4);
    assert_true(of_name("NVIDIA H100 PCIe") == 756.5);
    assert_true(of_name("NVIDIA H100 NVL") == 835.5);
    assert_true(of_name("NVIDIA A100-SXM4-40GB") == 312);
    assert_true(of_name("NVIDIA A100 80GB PCIe") == 312);
    assert_true(of_name("NVIDIA A10") == 125);
    assert_true(of_name("NVIDIA A10G") == 70);
    assert_true(of_name("NVIDIA L4") == 121);
    assert_true(of_name("NVIDIA L40S") == 362.05);
    assert_true(of_name("Tesla T4") == 65);
    assert_true(of_name("NVIDIA GeForce RTX 3060") == 25.5);
    assert_true(of_name("NVIDIA GeForce RTX 3060 Ti") == 32.4);
    assert_true(of_name("NVIDIA GeForce RTX 4090") == 165.2);
}

static void others_are_computed(void **state)
{
    (void)state;
    GpuSpeed laptop = {"NVIDIA GeForce RTX 3060 Laptop GPU", 86, 30, 1702000};
    assert_true(fabs(teraflops(laptop, "computed: 30 SMs at 1702 MHz") - 26.14) < 0.01);
    GpuSpeed slice = {"NVIDIA A100-SXM4-40GB MIG 3g.20gb", 80, 42, 1410000};
    assert_true(fabs(teraflops(slice, "computed: 42 SMs at 1410 MHz") - 121.3) < 0.1);
}

/* A whole card that has a data sheet, under another name: the formula finds its number. */
static void the_formula_agrees_with_the_data_sheets(void **state)
{
    (void)state;
    static const struct {
        GpuSpeed gpu;
        double teraflops;
    } CARDS[] = {
        {{"T4", 75, 40, 1590000}, 65},
        {{"RTX 2080 Ti GeForce", 75, 68, 1545000}, 53.8},
        {{"A100", 80, 108, 1410000}, 312},
        {{"A10", 86, 72, 1695000}, 125},
        {{"RTX 3090 GeForce", 86, 82, 1695000}, 71},
        {{"RTX 4090 GeForce", 89, 128, 2520000}, 165.2},
        {{"L40S", 89, 142, 2490000}, 362.05},
        {{"H100", 90, 132, 1830000}, 989.4},
        {{"B200", 100, 148, 1850000}, 2250},
        {{"RTX 5090 GeForce", 120, 170, 2407000}, 209.5},
    };
    for (size_t i = 0; i < sizeof(CARDS) / sizeof(CARDS[0]); i++) {
        char source[64];
        double flops = cuda_peak_flops(&CARDS[i].gpu, source, sizeof(source));
        if (fabs(flops * 1e-12 / CARDS[i].teraflops - 1) > 0.01)
            fail_msg("%s: %.1f, wanted %.1f", CARDS[i].gpu.name, flops * 1e-12, CARDS[i].teraflops);
    }
}

static void an_unknown_architecture_has_no_peak(void **state)
{
    (void)state;
    assert_true(teraflops((GpuSpeed){"NVIDIA Z900", 250, 100, 1000000}, "unknown card") == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_cards_have_the_data_sheets_number),
        cmocka_unit_test(others_are_computed),
        cmocka_unit_test(the_formula_agrees_with_the_data_sheets),
        cmocka_unit_test(an_unknown_architecture_has_no_peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
