#include "server/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define NUMBERS_MAX 0x3FFFFFFF /* above: the x32 forms of the same calls */
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#define NUMBERS_MAX 0x7FFFFFFF
#else
#define NATIVE_ARCH 0 /* ld_sandbox_possible is false */
#define NUMBERS_MAX 0x7FFFFFFF
#endif

/* An address sanitizer looks for leaks by tracing its own process. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_TRACER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(HAS_TRACER)
#define MAY_TRACE 1
#else
#define MAY_TRACE 0
#endif

/* ---- The filter ------------------------------------------------------------------------------ */

#define LOAD(field)                                                                                \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define REFUSE(code) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)(code))
#define ALLOW        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* When the loaded number is this call, the next instruction is run, else it is skipped. */
#define IF(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(number), 0, 1)

static const struct sock_filter filter[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0),
    REFUSE(EPERM), /* other numbers for the same calls */
    LOAD(nr),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NUMBERS_MAX, 0, 1),
    REFUSE(EPERM),
    IF(SYS_connect),
    REFUSE(EACCES),
    IF(SYS_process_vm_readv),
    REFUSE(EPERM),
    IF(SYS_process_vm_writev),
    REFUSE(EPERM),
    IF(SYS_mount),
    REFUSE(EPERM),
    IF(SYS_umount2),
    REFUSE(EPERM),
    IF(SYS_pivot_root),
    REFUSE(EPERM),
    IF(SYS_setns),
    REFUSE(EPERM),
    IF(SYS_bpf),
    REFUSE(EPERM),
    IF(SYS_perf_event_open),
    REFUSE(EPERM),
    IF(SYS_userfaultfd),
    REFUSE(EPERM),
    IF(SYS_init_module),
    REFUSE(EPERM),
    IF(SYS_finit_module),
    REFUSE(EPERM),
    IF(SYS_delete_module),
    REFUSE(EPERM),
    IF(SYS_kexec_load),
    REFUSE(EPERM),
    IF(SYS_add_key),
    REFUSE(EPERM),
    IF(SYS_request_key),
    REFUSE(EPERM),
    IF(SYS_keyctl),
    REFUSE(EPERM),
    IF(SYS_open_by_handle_at),
    REFUSE(EPERM),
    IF(SYS_io_uring_setup),
    REFUSE(EPERM),
    IF(SYS_io_uring_enter),
    REFUSE(EPERM),
    IF(SYS_io_uring_register),
    REFUSE(EPERM),
#if !MAY_TRACE
    IF(SYS_ptrace),
    REFUSE(EPERM),
#endif
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0),
    ALLOW,
    LOAD(args[0]), /* an int: the low half, first on both machines */
    IF(AF_UNIX),
    ALLOW,
    REFUSE(EACCES),
};

/* ---- The interface --------------------------------------------------------------------------- */

bool ld_sandbox_possible(void)
{
    const unsigned action = SECCOMP_RET_ERRNO;
    return NATIVE_ARCH != 0 && syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

enum ld_code ld_sandbox_close(struct ld_error *err)
{
    static struct sock_filter program[sizeof filter / sizeof filter[0]];
    struct sock_fprog whole = {.len = sizeof filter / sizeof filter[0], .filter = program};
    if (!ld_sandbox_possible())
        return LD_FAIL(err, LD_E_UNSUPPORTED, "this kernel has no seccomp filters");
    for (size_t i = 0; i < sizeof filter / sizeof filter[0]; i++)
        program[i] = filter[i];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &whole) != 0) {
        const int os_code = errno;
        return LD_FAIL_OS(err, LD_E_FORBIDDEN, os_code, "the kernel refused a seccomp filter");
    }
    return LD_OK;
}
