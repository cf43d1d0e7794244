/* The matrix products of the CPU's ops, by the fastest way there is: on AMX where the device has it
 * and the product is large enough, one row by row_product.h, else by the library behind gemm.h. */
#ifndef GPT_KERNELS_CPU_PRODUCT_H
#define GPT_KERNELS_CPU_PRODUCT_H

#include "kernels/cpu/gemm.h"
#include "kernels/device.h"

/* Is p a product that cpu_product would compute on AMX? */
bool cpu_product_on_amx(const Device *dev, const Product *p);

/* Computes p; a fault of the library goes into dev->err. Uses dev->workspace. */
void cpu_product(Device *dev, const Product *p);

#endif
