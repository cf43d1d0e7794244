/* Made by make_adamw.py with torch 1.13.0a0. */
#ifndef GPT_TESTS_GOLDEN_ADAMW_H
#define GPT_TESTS_GOLDEN_ADAMW_H

enum { GOLDEN_N = 7, GOLDEN_STEPS = 10, GOLDEN_RUNS = 2 };
static const double GOLDEN_LR = 0.0006, GOLDEN_BETA1 = 0.9, GOLDEN_BETA2 = 0.95, GOLDEN_EPS = 1e-08;

/* clang-format off */
static const float GOLDEN_START[GOLDEN_N] = {-0x1.0353b6p+1f, -0x1.086298p+1f, -0x1.3492a8p+0f, -0x1.d30f0ap-1f, -0x1.400e8ap+0f, 0x1.9b4174p-1f, -0x1.a830f2p-3f};
static const float GOLDEN_GRAD[GOLDEN_STEPS][GOLDEN_N] = {
    {0x1.72c32ep-30f, -0x1.dfce1ep-27f, 0x1.7f972ep-19f, 0x1.fa004ap-11f, -0x1.a13554p-3f, 0x1.3b9b72p+2f, 0x1.73bfe8p+10f},
    {0x1.44ec7ep-31f, 0x1.b108eap-27f, -0x1.062ceap-16f, -0x1.301d30p-10f, -0x1.124d36p-5f, 0x1.1e92fep+2f, -0x1.90d286p+9f},
    {0x1.a2ce9ep-30f, 0x1.0d5b84p-22f, -0x1.bcff00p-18f, -0x1.077b30p-12f, 0x1.9dc15ep-4f, 0x1.3728e2p+0f, 0x1.3ccc76p+7f},
    {0x1.37b77ap-30f, -0x1.ef9864p-24f, -0x1.90805ep-19f, -0x1.0a1868p-11f, -0x1.7a7028p-4f, 0x1.5de454p+2f, -0x1.75b1c4p+10f},
    {-0x1.4b6ca2p-30f, 0x1.eb3084p-25f, -0x1.90e0b6p-18f, -0x1.6baf94p-11f, 0x1.5101a0p-3f, -0x1.00f532p+3f, 0x1.51da4cp+10f},
    {-0x1.2f6064p-32f, -0x1.447302p-23f, 0x1.611f50p-16f, 0x1.6a2586p-9f, -0x1.65b06ep-3f, 0x1.d08244p+3f, -0x1.79921ep+10f},
    {0x1.c36f1ep-31f, -0x1.6b66aap-26f, 0x1.055adap-17f, 0x1.91efeep-10f, 0x1.49ac8ep-3f, -0x1.0210e6p+2f, -0x1.a13c30p+9f},
    {0x1.48a4fap-31f, -0x1.61423cp-28f, -0x1.5a98fcp-21f, -0x1.0492fap-11f, 0x1.7d8c2ep-5f, 0x1.b9cf08p+2f, -0x1.884522p+7f},
    {0x1.b015bap-38f, -0x1.9f1c60p-24f, 0x1.e0e476p-19f, 0x1.c1fccap-14f, 0x1.fe7f5ap-4f, 0x1.8eb89ep+3f, -0x1.f49a7ap+9f},
    {-0x1.c22bccp-32f, -0x1.6971ecp-26f, -0x1.0b169ep-17f, 0x1.10343cp-13f, -0x1.8e3eeep-3f, 0x1.38122cp-1f, -0x1.dbdd9ep+7f},
};
static const struct {
    double weight_decay;
    float p[GOLDEN_N], m[GOLDEN_N], v[GOLDEN_N];
} GOLDEN_END[GOLDEN_RUNS] = {
    {0.1, {-0x1.0338b0p+1f, -0x1.083a96p+1f, -0x1.343208p+0f, -0x1.d32024p-1f, -0x1.3f7c02p+0f, 0x1.990ec6p-1f, -0x1.a7ba98p-3f},
     {0x1.a0914cp-33f, -0x1.cd6c4ep-27f, 0x1.174906p-25f, 0x1.7fa276p-13f, -0x1.fbfa56p-9f, 0x1.544254p+1f, -0x1.02ac54p+8f},
     {0x1.6dfc1cp-62f, 0x1.318e5ap-48f, 0x1.3d0246p-35f, 0x1.1bbbdap-21f, 0x1.0acce4p-7f, 0x1.7e5e3ep+4f, 0x1.99be9ep+18f}},
    {0.0, {-0x1.036088p+1f, -0x1.086336p+1f, -0x1.346168p+0f, -0x1.d367eap-1f, -0x1.3fad1ep+0f, 0x1.994dcap-1f, -0x1.a7fbecp-3f},
     {0x1.a0914cp-33f, -0x1.cd6c4ep-27f, 0x1.174906p-25f, 0x1.7fa276p-13f, -0x1.fbfa56p-9f, 0x1.544254p+1f, -0x1.02ac54p+8f},
     {0x1.6dfc1cp-62f, 0x1.318e5ap-48f, 0x1.3d0246p-35f, 0x1.1bbbdap-21f, 0x1.0acce4p-7f, 0x1.7e5e3ep+4f, 0x1.99be9ep+18f}},
};
/* clang-format on */

#endif
