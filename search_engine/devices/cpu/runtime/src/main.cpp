// The runner: maps the arena, locks itself down, loads one module, runs one job.
//
// The job comes as words on standard input (see job.py, which writes it), results go as
// lines to standard output. Exit codes: 0 ended, 2 bad job or module, 3 no memory,
// 4 fault reported, 5 no lock-down.
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime.h"

extern "C" bool simt_hooked;

using namespace simt;

namespace {

struct Argument {
  bool pointer;
  uint64_t value;  // an offset in the arena, or the bytes of a number
};

struct PlannedLaunch {
  char function[256];
  Launch launch;
  Argument* arguments;
  size_t argument_count;
  Range* buffers;
  uint64_t* blocks;
};

char* text;
size_t position, length;

[[noreturn]] void refuse(const char* why) {
  fprintf(stderr, "%s\n", why);
  _exit(2);
}

void read_job() {
  size_t room = 0;
  for (;;) {
    if (length + 1 >= room) text = (char*)realloc(text, room = room * 2 + 65536);
    ssize_t n = read(0, text + length, room - length - 1);
    if (n < 0 || !text) refuse("the job cannot be read");
    if (n == 0) break;
    length += (size_t)n;
  }
  text[length] = 0;
}

// The next word, null at the end.
const char* word() {
  while (position < length && text[position] <= ' ') ++position;
  if (position >= length) return nullptr;
  const char* start = text + position;
  while (position < length && text[position] > ' ') ++position;
  text[position++] = 0;
  return start;
}

uint64_t number() {
  const char* w = word();
  if (!w) refuse("the job ends early");
  return strtoull(w, nullptr, 0);
}

Dim dim() {
  uint32_t x = (uint32_t)number(), y = (uint32_t)number(), z = (uint32_t)number();
  return {x, y, z};
}

template <class T>
T* array(size_t count) {
  T* memory = (T*)calloc(count + 1, sizeof(T));
  if (!memory) refuse("no memory for the job");
  return memory;
}

PlannedLaunch read_launch() {
  PlannedLaunch p = {};
  const char* function = word();
  if (!function || strlen(function) > 200) refuse("a launch without a function");
  snprintf(p.function, sizeof p.function, "simt_launch_%s", function);
  Launch& l = p.launch;
  l.grid = dim();
  l.block = dim();
  l.shared_bytes = (uint32_t)number();
  l.cooperative = number() != 0;
  if (l.block.count() > 1024 || l.shared_bytes > MAX_DYNAMIC_SHARED) refuse("a launch too large");
  p.argument_count = number();
  p.arguments = array<Argument>(p.argument_count);
  for (size_t i = 0; i < p.argument_count; ++i) {
    p.arguments[i].pointer = number() != 0;
    p.arguments[i].value = number();
  }
  l.buffer_count = number();
  p.buffers = array<Range>(l.buffer_count);
  for (size_t i = 0; i < l.buffer_count; ++i) {
    p.buffers[i].begin = number();
    p.buffers[i].end = number();
    p.buffers[i].writable = number() != 0;
  }
  l.l1_bytes = (uint32_t)number();
  uint64_t sampled = number();
  l.block_count = sampled ? sampled : l.grid.count();
  if (sampled) {
    p.blocks = array<uint64_t>(sampled);
    for (uint64_t i = 0; i < sampled; ++i) p.blocks[i] = number();
  }
  l.blocks = p.blocks;
  return p;
}

}  // namespace

int main() {
  report_open(1);
  read_job();

  int arena_fd = -1, module_fd = -1;
  bool guarded = true, probe = false;
  uint64_t arena_size = 0, module_span = 0, address_space = 0, cpu_seconds = 0;
  uint64_t writable_begin = 0, writable_end = 0, most_threads = 1024;
  size_t variables_read = 0, launches_read = 0, launch_total = 0;
  Variable* vars = nullptr;
  PlannedLaunch* launches = nullptr;

  while (const char* what = word()) {
    if (!strcmp(what, "mode")) {
      const char* which = word();
      mode = !strcmp(which, "check") ? Mode::check : !strcmp(which, "count") ? Mode::count : Mode::plain;
    } else if (!strcmp(what, "arena")) {
      arena_fd = (int)(long)number() - 1;  // 0: private memory, nothing comes back
      arena_size = number();
      writable_begin = number();
      writable_end = number();
    } else if (!strcmp(what, "module")) {
      module_fd = (int)number();
      module_span = number();
    } else if (!strcmp(what, "limits")) {
      address_space = number();
      cpu_seconds = number();
      guarded = number() != 0;
      most_threads = number();
    } else if (!strcmp(what, "variables")) {
      variable_count = number();
      vars = array<Variable>(variable_count);
    } else if (!strcmp(what, "variable")) {
      if (variables_read == variable_count) refuse("too many variables");
      Variable& v = vars[variables_read++];
      v.begin = number();
      v.end = number();
      v.shared = number() != 0;
      v.guard = number() != 0;
    } else if (!strcmp(what, "launches")) {
      launch_total = number();
      launches = array<PlannedLaunch>(launch_total);
    } else if (!strcmp(what, "launch")) {
      if (launches_read == launch_total) refuse("too many launches");
      launches[launches_read++] = read_launch();
    } else if (!strcmp(what, "probe")) {
      probe = true;
    } else {
      refuse("an unknown word in the job");
    }
  }
  if (probe) {
    bool both = guard_loading() && guard_running();
    _exit(both ? 0 : 5);
  }

  // Modules name no library: what they need of the math library is found here.
  dlopen("libm.so.6", RTLD_NOW | RTLD_GLOBAL);
  simt_hooked = mode != Mode::plain;
  void* arena = mmap(nullptr, arena_size, PROT_READ | PROT_WRITE,
                     arena_fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
                                  : MAP_SHARED | MAP_POPULATE,
                     arena_fd, 0);
  if (arena == MAP_FAILED) refuse("the arena cannot be mapped");
  if (arena_fd >= 0) close(arena_fd);
  arena_begin = (uintptr_t)arena;
  arena_end = arena_begin + arena_size;

  guard_limits(address_space, cpu_seconds);
  catch_faults();
  if (guarded && !guard_loading()) _exit(5);

  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", module_fd);
  void* module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!module) refuse(dlerror());
  link_map* map = nullptr;
  if (dlinfo(module, RTLD_DI_LINKMAP, &map) != 0) refuse("the module has no address");
  module_begin = map->l_addr;
  module_end = module_begin + module_span;
  for (size_t i = 0; i < variable_count; ++i)
    vars[i].begin += module_begin, vars[i].end += module_begin;
  variables = vars;

  for (size_t i = 0; i < launch_total; ++i) {
    PlannedLaunch& p = launches[i];
    p.launch.entry = (void (*)(void**))dlsym(module, p.function);
    if (!p.launch.entry) refuse("a function of the launches is not in the module");
    p.launch.arguments = array<void*>(p.argument_count);
    for (size_t k = 0; k < p.argument_count; ++k) {
      if (p.arguments[k].pointer) p.arguments[k].value += arena_begin;
      p.launch.arguments[k] = &p.arguments[k].value;
    }
    for (size_t k = 0; k < p.launch.buffer_count; ++k)
      p.buffers[k].begin += arena_begin, p.buffers[k].end += arena_begin;
    p.launch.buffers = p.buffers;
  }
  scheduler_start(most_threads);
  if (mode == Mode::check)
    check_start(arena_begin + writable_begin, arena_begin + writable_end);
  if (mode == Mode::count) count_start();

  if (guarded && !guard_running()) _exit(5);
  for (size_t i = 0; i < launch_total && !stopped; ++i) {
    run_launch(launches[i].launch);
    if (any_findings()) report_line("during %zu\n", i), report_flush(), stopped = true;
  }
  report_line("done\n");
  _exit(0);
}
