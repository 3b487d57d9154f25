/*
 * The two ways to change stacks. Source: System V ABI for x86-64, registers saved by the callee.
 */
#include "kernels/host/switch.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)

__asm__(".text\n"
        ".globl ldk_stack_switch\n"
        ".type ldk_stack_switch, @function\n"
        "ldk_stack_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size ldk_stack_switch, .-ldk_stack_switch\n");

void *ldk_stack_prepare(char *low, size_t bytes, void (*entry)(void))
{
    /* Six registers, the entry as return address, and a return address of zero for the entry
     * itself, which leaves the stack aligned as after a call. */
    enum { WORDS = 8 };
    uintptr_t top = ((uintptr_t)low + bytes) & ~(uintptr_t)15;
    uint64_t *words = (uint64_t *)(top - WORDS * sizeof(uint64_t) - 8 * sizeof(uint64_t));
    memset(words, 0, WORDS * sizeof *words);
    words[6] = (uint64_t)(uintptr_t)entry;
    return words;
}

#else

#include <ucontext.h>

void ldk_stack_switch(void **from, void *to)
{
    ucontext_t here;
    *from = &here; /* lives on the stack that is left, exactly as long as it is needed */
    swapcontext(&here, to);
}

void *ldk_stack_prepare(char *low, size_t bytes, void (*entry)(void))
{
    ucontext_t *context = (ucontext_t *)(void *)low;
    size_t own = (sizeof *context + 63) & ~(size_t)63;
    getcontext(context);
    context->uc_stack.ss_sp = low + own;
    context->uc_stack.ss_size = bytes - own;
    context->uc_link = NULL;
    makecontext(context, entry, 0);
    return context;
}

#endif
