/* tool_comm_abort CODE: the last rank ends the job with this exit code while the others wait for
 * it. */
#include <stdlib.h>

#include "comm/comm.h"

int main(int argc, char **argv)
{
    Comm comm;
    if (argc != 2 || comm_open(&comm, true))
        return EXIT_FAILURE;
    if (comm.rank == comm.world - 1)
        comm_abort(&comm, atoi(argv[1]));
    err_free(comm_barrier(&comm)); /* never returns */
    return EXIT_FAILURE;
}
