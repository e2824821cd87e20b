// What was found, kept until the end and written as lines to the result pipe. The lines are
// plain text, parsed with suspicion on the other side.
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "runtime.h"

namespace simt {

struct Found {
  const char* check;
  char text[200];
  uintptr_t pc;
  int line;
  Dim block_index, thread_index;
  bool cross_block;
};

static constexpr int MOST = 48, MOST_OF_ONE_KIND = 4;
static Found found[MOST];
static int count, last = -1;
static int result_fd = 1;

void report_open(int fd) { result_fd = fd; }
bool any_findings() { return count > 0; }

void report_at(const char* check, const char* text, uintptr_t pc, int line, Dim block_index,
               Dim thread_index) {
  int same_kind = 0;
  last = -1;
  for (int i = 0; i < count; ++i) {
    if (strcmp(found[i].check, check) != 0) continue;
    if (found[i].pc == pc && found[i].line == line) return;
    ++same_kind;
  }
  if (count == MOST || same_kind == MOST_OF_ONE_KIND) return;
  last = count;
  Found& f = found[count++];
  f = {check, {}, pc, line, block_index, thread_index, false};
  snprintf(f.text, sizeof f.text, "%s", text);
  for (char* c = f.text; *c; ++c)
    if (*c < ' ' || *c > '~') *c = ' ';
}

void report(const char* check, const char* text, uintptr_t pc, int line) {
  Dim none = {0, 0, 0};
  report_at(check, text, pc, line, block ? block->index : none, thread ? thread->index : none);
}

void mark_last_cross_block() {
  if (last >= 0) found[last].cross_block = true;
}

// A launch that orders its blocks by fences and flags is not understood well enough here.
void drop_cross_block_races() {
  int kept = 0;
  for (int i = 0; i < count; ++i)
    if (!found[i].cross_block) found[kept++] = found[i];
  count = kept;
  last = -1;
}

void report_line(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (length > (int)sizeof text - 1) length = (int)sizeof text - 1;
  for (int sent = 0; sent < length;) {
    ssize_t n = write(result_fd, text + sent, (size_t)(length - sent));
    if (n <= 0) _exit(3);
    sent += (int)n;
  }
}

void report_flush() {
  for (int i = 0; i < count; ++i) {
    Found& f = found[i];
    uintptr_t offset = f.pc >= module_begin && f.pc < module_end ? f.pc - module_begin : 0;
    report_line("finding %s %llu %d %u %u %u %u %u %u %s\n", f.check, (unsigned long long)offset,
                f.line, f.block_index.x, f.block_index.y, f.block_index.z, f.thread_index.x,
                f.thread_index.y, f.thread_index.z, f.text);
  }
  count = 0;
}

}  // namespace simt
