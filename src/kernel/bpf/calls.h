// The call that the current thread makes: its number and its arguments.
#pragma once
#include "kernel.h"

#define TS_COMPAT 2           // `arch/x86/include/asm/thread_info.h`
#define TIF_32BIT (1UL << 22) // `arch/arm64/include/asm/thread_info.h`

// Returns whether the current call came through the machine's 32-bit ABI.
INLINE int is_compat(void)
{
#if defined(ARCH_x86_64)
    u32 status = 0;
    READ(status, ((struct task_struct *)current_task())->thread_info.status);
    return (status & 2) != 0; // TS_COMPAT
#elif defined(ARCH_aarch64)
    unsigned long flags = 0;
    READ(flags, ((struct task_struct *)current_task())->thread_info.flags);
    return (flags & TIF_32BIT) != 0;
#else
    return 0;
#endif
}

// Returns the number of the current call.
INLINE u32 call_number(struct pt_regs *registers)
{
#if defined(ARCH_x86_64)
    unsigned long number = 0;
    READ(number, registers->orig_ax);
#elif defined(ARCH_aarch64)
    s32 number = 0;
    READ(number, registers->syscallno);
#elif defined(ARCH_riscv64)
    unsigned long number = 0;
    READ(number, registers->a7);
#endif
    return number;
}

// Returns the address of the instruction after the call.
INLINE u64 instruction_pointer(struct pt_regs *registers)
{
    u64 ip = 0;
#if defined(ARCH_x86_64)
    READ(ip, registers->ip);
#elif defined(ARCH_aarch64)
    READ(ip, registers->pc);
#elif defined(ARCH_riscv64)
    READ(ip, registers->epc);
#endif
    return ip;
}

struct call_arguments {
    u64 of[6];
};

INLINE void read_arguments(struct call_arguments *to, struct pt_regs *registers)
{
#if defined(ARCH_x86_64)
    READ(to->of[0], registers->di);
    READ(to->of[1], registers->si);
    READ(to->of[2], registers->dx);
    READ(to->of[3], registers->r10);
    READ(to->of[4], registers->r8);
    READ(to->of[5], registers->r9);
#elif defined(ARCH_aarch64)
    // The returned value is in the first register.
    READ(to->of[0], registers->orig_x0);
    READ(to->of[1], registers->regs[1]);
    READ(to->of[2], registers->regs[2]);
    READ(to->of[3], registers->regs[3]);
    READ(to->of[4], registers->regs[4]);
    READ(to->of[5], registers->regs[5]);
#elif defined(ARCH_riscv64)
    READ(to->of[0], registers->orig_a0);
    READ(to->of[1], registers->a1);
    READ(to->of[2], registers->a2);
    READ(to->of[3], registers->a3);
    READ(to->of[4], registers->a4);
    READ(to->of[5], registers->a5);
#endif
}

// Returns the argument of an index that is not constant. `place` is the index plus one, or 0 for none.
INLINE u64 argument_at(const struct call_arguments *arguments, u8 place)
{
    switch (place) {
    case 1:
        return arguments->of[0];
    case 2:
        return arguments->of[1];
    case 3:
        return arguments->of[2];
    case 4:
        return arguments->of[3];
    case 5:
        return arguments->of[4];
    case 6:
        return arguments->of[5];
    default:
        return 0;
    }
}
