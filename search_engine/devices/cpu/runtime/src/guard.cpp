// The lock-down. Stage 1 holds while the module is loaded: files can be opened for reading
// only, nothing is sent, started or changed. Stage 2 holds while generated code runs: it may
// compute, get memory that is not executable, write results to one pipe, and end.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <initializer_list>

#include "runtime.h"

namespace simt {

#if defined(__x86_64__)
static constexpr unsigned ARCHITECTURE = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
static constexpr unsigned ARCHITECTURE = AUDIT_ARCH_AARCH64;
#endif

// A program of classic BPF, built rule by rule. Offsets of jumps count instructions.
struct Filter {
  sock_filter code[128];
  unsigned short size = 0;

  void add(uint16_t operation, uint32_t k, uint8_t yes = 0, uint8_t no = 0) {
    code[size++] = {operation, yes, no, k};
  }
  void load(uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset); }
  void load_call() { load(offsetof(seccomp_data, nr)); }
  // Low word of an argument; flags and protections have no bits above it.
  void load_argument(int i) { load((uint32_t)offsetof(seccomp_data, args) + 8 * (uint32_t)i); }
  void give(uint32_t verdict) { add(BPF_RET | BPF_K, verdict); }

  Filter() {
    load(offsetof(seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    give(SECCOMP_RET_KILL_PROCESS);
    load_call();
#if defined(__x86_64__)
    add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);  // the x32 interface
    give(SECCOMP_RET_KILL_PROCESS);
#endif
  }
  void allow(long call) {
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
    give(SECCOMP_RET_ALLOW);
  }
  // Allowed if none of `forbidden`'s bits is set in the argument.
  void allow_without(long call, int argument, uint32_t forbidden) {
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    load_argument(argument);
    add(BPF_JMP | BPF_JSET | BPF_K, forbidden, 0, 1);
    give(SECCOMP_RET_KILL_PROCESS);
    give(SECCOMP_RET_ALLOW);
  }
  void allow_if_equal(long call, int argument, uint32_t value) {
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    load_argument(argument);
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
    give(SECCOMP_RET_KILL_PROCESS);
    give(SECCOMP_RET_ALLOW);
  }
  // Anonymous memory that cannot be executed.
  void allow_plain_mmap() {
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)__NR_mmap, 0, 6);
    load_argument(2);
    add(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 3, 0);
    load_argument(3);
    add(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 0, 1);
    give(SECCOMP_RET_ALLOW);
    give(SECCOMP_RET_KILL_PROCESS);
  }
  bool install() {
    give(SECCOMP_RET_KILL_PROCESS);
    sock_fprog program = {size, code};
    return syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
  }
};

bool guard_loading() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  Filter f;
  f.allow_without(__NR_openat, 2, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND);
  for (long call : {__NR_read, __NR_pread64, __NR_fstat, __NR_newfstatat, __NR_lseek, __NR_close,
                    __NR_mmap, __NR_mprotect, __NR_munmap, __NR_madvise, __NR_brk, __NR_futex,
                    __NR_getrandom, __NR_readlinkat, __NR_getcwd, __NR_faccessat,
                    __NR_rt_sigreturn, __NR_rt_sigprocmask, __NR_clock_gettime, __NR_write,
                    __NR_exit, __NR_exit_group, __NR_seccomp})
    f.allow(call);
#if defined(__x86_64__)
  f.allow_without(__NR_open, 1, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND);
  for (long call : {__NR_stat, __NR_lstat, __NR_access, __NR_readlink}) f.allow(call);
#endif
  return f.install();
}

bool guard_running() {
  Filter f;
  f.allow_if_equal(__NR_write, 0, 1);
  f.allow_plain_mmap();
  f.allow_without(__NR_mprotect, 2, PROT_EXEC);
  for (long call : {__NR_munmap, __NR_madvise, __NR_brk, __NR_futex, __NR_rt_sigreturn,
                    __NR_exit, __NR_exit_group})
    f.allow(call);
  return f.install();
}

void guard_limits(uint64_t address_space, uint64_t cpu_seconds) {
  auto limit = [](__rlimit_resource_t what, uint64_t value) {
    rlimit both = {value, value};
    setrlimit(what, &both);
  };
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_AS, address_space);
  limit(RLIMIT_CPU, cpu_seconds);
}

// --- faults --------------------------------------------------------------------------------

static uintptr_t program_counter(void* context) {
#if defined(__x86_64__)
  return (uintptr_t)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
  return (uintptr_t)((ucontext_t*)context)->uc_mcontext.pc;
#endif
}

static void on_fault(int signal, siginfo_t* info, void* context) {
  uintptr_t address = (uintptr_t)info->si_addr;
  const char* text = "the kernel broke off";
  if (signal == SIGSEGV && on_guard_page(address)) text = "a thread's stack ran over";
  else if (signal == SIGSEGV && address < 65536) text = "memory was accessed through a null pointer (SIGSEGV)";
  else if (signal == SIGSEGV) text = "memory was accessed that is not there (SIGSEGV)";
  else if (signal == SIGBUS) text = "memory was accessed that is not there (SIGBUS)";
  else if (signal == SIGFPE) text = "an integer was divided by zero (SIGFPE)";
  else if (signal == SIGILL) text = "an invalid instruction (SIGILL)";
  report("fault", text, program_counter(context), 0);
  report_flush();
  _exit(4);
}

void catch_faults() {
  static unsigned char stack[32768];
  stack_t alternate = {};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  sigaltstack(&alternate, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND;
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, nullptr);
}

}  // namespace simt
