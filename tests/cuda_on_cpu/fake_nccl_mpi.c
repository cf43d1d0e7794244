/* MPI calls that wait, in a program with a fake GPU: streams go on meanwhile, as those of a GPU
 * would. Without this a rank that waits for a message would keep another waiting for its part of a
 * collective, and the two for ever. By MPI's profiling interface, and weak: a test may have its
 * own.
 */
#include <mpi.h>

#include <sched.h>

#include "tests/cuda_on_cpu/fake_stream.h"

static int finish(int rc, MPI_Request *request, MPI_Status *status)
{
    int done = 0;
    while (rc == MPI_SUCCESS && !done) {
        rc = PMPI_Test(request, &done, status);
        if (rc == MPI_SUCCESS && !done) {
            fake_streams_progress();
            sched_yield();
        }
    }
    return rc;
}

__attribute__((weak)) int MPI_Barrier(MPI_Comm comm)
{
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Ibarrier(comm, &request), &request, MPI_STATUS_IGNORE);
}

__attribute__((weak)) int MPI_Bcast(void *buffer, int count, MPI_Datatype type, int root,
                                    MPI_Comm comm)
{
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Ibcast(buffer, count, type, root, comm, &request), &request,
                  MPI_STATUS_IGNORE);
}

__attribute__((weak)) int MPI_Allreduce(const void *send, void *receive, int count,
                                        MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Iallreduce(send, receive, count, type, op, comm, &request), &request,
                  MPI_STATUS_IGNORE);
}

__attribute__((weak)) int MPI_Allgather(const void *send, int send_count, MPI_Datatype send_type,
                                        void *receive, int receive_count, MPI_Datatype receive_type,
                                        MPI_Comm comm)
{
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Iallgather(send, send_count, send_type, receive, receive_count, receive_type,
                                  comm, &request),
                  &request, MPI_STATUS_IGNORE);
}

__attribute__((weak)) int MPI_Gather(const void *send, int send_count, MPI_Datatype send_type,
                                     void *receive, int receive_count, MPI_Datatype receive_type,
                                     int root, MPI_Comm comm)
{
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Igather(send, send_count, send_type, receive, receive_count, receive_type,
                               root, comm, &request),
                  &request, MPI_STATUS_IGNORE);
}

__attribute__((weak)) int MPI_Send(const void *buffer, int count, MPI_Datatype type, int to,
                                   int tag, MPI_Comm comm)
{
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Isend(buffer, count, type, to, tag, comm, &request), &request,
                  MPI_STATUS_IGNORE);
}

__attribute__((weak)) int MPI_Recv(void *buffer, int count, MPI_Datatype type, int from, int tag,
                                   MPI_Comm comm, MPI_Status *status)
{
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Irecv(buffer, count, type, from, tag, comm, &request), &request, status);
}

/* The receive is finished first; a send that another rank does not take yet goes on meanwhile. */
__attribute__((weak)) int MPI_Sendrecv(const void *send, int send_count, MPI_Datatype send_type,
                                       int to, int send_tag, void *receive, int receive_count,
                                       MPI_Datatype receive_type, int from, int receive_tag,
                                       MPI_Comm comm, MPI_Status *status)
{
    MPI_Request sending = MPI_REQUEST_NULL, receiving = MPI_REQUEST_NULL;
    int rc = PMPI_Irecv(receive, receive_count, receive_type, from, receive_tag, comm, &receiving);
    if (rc != MPI_SUCCESS)
        return rc;
    rc = PMPI_Isend(send, send_count, send_type, to, send_tag, comm, &sending);
    if (rc != MPI_SUCCESS)
        return rc;
    rc = finish(MPI_SUCCESS, &receiving, status);
    return rc == MPI_SUCCESS ? finish(rc, &sending, MPI_STATUS_IGNORE) : rc;
}
