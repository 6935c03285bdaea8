/* Preloaded by `gate`: the keys of hash maps come from here and are the same in every run.
 *
 * candle drops its gradients in the order of such a map. Random keys free memory in another order each time, the heap is laid
 * out another way, and malloc, memset and memcpy take more or fewer instructions: up to 1.6 % in a network's training. */
#include <string.h>
#include <sys/types.h>

ssize_t getrandom(void *buffer, size_t length, unsigned flags)
{
    (void)flags;
    memset(buffer, 1, length);
    return (ssize_t)length;
}
