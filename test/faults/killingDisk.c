/* Loaded before a program's own libraries: kills the process in a commit of the store once the file named by KILLING_DISK is
   there. Its first letter says where: b before the flush, f behind it, before the meta page, a behind the meta page, when the
   commit is durable and nobody knows. The number after it says in which commit from then on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_store(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path);
  return length >= 8 && memcmp(path + length - 8, "data.mdb", 8) == 0;
}

/* Commits follow one another: one counter is enough. */
static void reached(char place) {
  static int count = 0;
  char text[16] = {0};
  const char *flag = getenv("KILLING_DISK");
  int file = flag == NULL ? -1 : open(flag, O_RDONLY);
  if (file < 0) return;
  ssize_t got = read(file, text, sizeof text - 1);
  close(file);
  if (got > 1 && text[0] == place && ++count >= atoi(text + 1)) kill(getpid(), SIGKILL);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_meta(int fd, size_t size) { return size > 1 && size < 512 && is_store(fd); }

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
  int meta = is_meta(fd, size);
  ssize_t done = NEXT(pwrite)(fd, bytes, size, at);
  if (meta) reached('a');
  return done;
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  int meta = is_meta(fd, size);
  ssize_t done = NEXT(pwrite64)(fd, bytes, size, at);
  if (meta) reached('a');
  return done;
}
int fdatasync(int fd) {
  int store = is_store(fd);
  if (store) reached('b');
  int done = NEXT(fdatasync)(fd);
  if (store) reached('f');
  return done;
}
