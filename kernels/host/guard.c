/*
 * Tensors between guard areas: a header page, 1 MiB that faults, the data, 1 MiB that faults.
 */
#include "kernels/host/fiber.h"
#include "kernels/host/sanitizer.h"

#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, GUARD = 1 << 20, ALIGNMENT = 256 };

struct header {
    struct header *next;
    void *tensor;
    size_t mapped, data_bytes;
};
static struct header *first;

void *ldk_host_tensor(size_t bytes)
{
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t data = (rounded + PAGE - 1) / PAGE * PAGE;
    size_t mapped = PAGE + GUARD + data + GUARD;
    if (data < bytes || mapped < data)
        return NULL;
    unsigned char *memory =
        mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    unsigned char *low = memory + PAGE + GUARD;
    if (mprotect(memory, PAGE, PROT_READ | PROT_WRITE) != 0 ||
        (data > 0 && mprotect(low, data, PROT_READ | PROT_WRITE) != 0)) {
        munmap(memory, mapped);
        return NULL;
    }
    struct header *header = (struct header *)(void *)memory;
    unsigned char *tensor = low + (data - rounded);
    *header = (struct header){first, tensor, mapped, data};
    first = header;
    memset(low, 0xFF, data);
    sanitizer_forbid(low, (size_t)(tensor - low));
    sanitizer_forbid(tensor + bytes, rounded - bytes);
    sanitizer_unset(tensor, bytes);
    return tensor;
}

void ldk_host_tensor_free(void *tensor)
{
    if (!tensor)
        return;
    struct header **link = &first;
    while (*link && (*link)->tensor != tensor)
        link = &(*link)->next;
    struct header *header = *link;
    if (!header)
        ldk_host_fault((struct ldk_place){0}, "%p is no tensor to be freed", tensor);
    *link = header->next;
    unsigned char *memory = (unsigned char *)header;
    sanitizer_permit(memory + PAGE + GUARD, header->data_bytes);
    munmap(memory, header->mapped);
}
