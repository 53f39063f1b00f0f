/*
 * Preloaded into User-Mode Linux by uml-run. Before 6.13 it keeps the extended registers of its processes in 2696
 * bytes, and the host's kernel wants PTRACE_SETREGSET to bring all that the processor has (xstateregs_set in
 * arch/x86/kernel/fpu/regset.c): 11008 bytes where there is AMX, and "ptrace set fp regs failed, errno = 14" is the
 * first and last word of the guest. This ptrace makes up the rest with zeros, which nothing in the guest uses.
 * Compiled with tcc and no header files, so that nothing needs to be installed.
 */

struct part {
    void *base;
    unsigned long length;
};
typedef long ptrace_function(long, long, unsigned long, void *);
enum { GETREGSET = 0x4204, SETREGSET = 0x4205, NT_X86_XSTATE = 0x202 };

extern void *dlsym(void *, const char *);
extern void *memcpy(void *, const void *, unsigned long);
extern void *memset(void *, int, unsigned long);

static char whole[65536];
static unsigned long full;

static unsigned long smaller(unsigned long a, unsigned long b)
{
    return a < b ? a : b;
}

long ptrace(long request, long process, unsigned long kind, struct part *asked)
{
    static ptrace_function *real;
    struct part all = { whole, sizeof whole };
    long answer;

    if (!real)
        real = (ptrace_function *)dlsym((void *)-1, "ptrace"); /* RTLD_NEXT */
    if (kind != NT_X86_XSTATE || (request != GETREGSET && request != SETREGSET))
        return real(request, process, kind, asked);

    if (request == GETREGSET || !full) {
        answer = real(GETREGSET, process, kind, &all);
        if (answer)
            return answer;
        full = all.length;
    }
    if (request == GETREGSET) {
        asked->length = smaller(asked->length, full);
        memcpy(asked->base, whole, asked->length);
        return 0;
    }
    memset(whole, 0, full);
    memcpy(whole, asked->base, smaller(asked->length, full));
    all.length = full;
    return real(SETREGSET, process, kind, &all);
}
