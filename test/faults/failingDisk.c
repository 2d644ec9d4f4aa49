/* Loaded before a program's own libraries: writes to the store's file fail while the file named by FAILING_DISK is there.
   Its first letter says which: m those of a meta page, w all, s the flushes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_failing(int fd, char what) {
  char link[64], path[4096], mode = 0;
  const char *flag = getenv("FAILING_DISK");
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path);
  if (flag == NULL || length < 8 || memcmp(path + length - 8, "data.mdb", 8) != 0) return 0;
  int file = open(flag, O_RDONLY);
  if (file < 0) return 0;
  ssize_t got = read(file, &mode, 1);
  close(file);
  return got == 1 && (mode == what || (mode == 'w' && what == 'm'));
}

static char kind(size_t size) { return size > 1 && size < 512 ? 'm' : 'w'; }

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL return errno = EIO, -1

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
  if (is_failing(fd, kind(size))) FAIL;
  return NEXT(pwrite)(fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  if (is_failing(fd, kind(size))) FAIL;
  return NEXT(pwrite64)(fd, bytes, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (is_failing(fd, 'w')) FAIL;
  return NEXT(writev)(fd, parts, count);
}
int fdatasync(int fd) {
  if (is_failing(fd, 's')) FAIL;
  return NEXT(fdatasync)(fd);
}
int fsync(int fd) {
  if (is_failing(fd, 's')) FAIL;
  return NEXT(fsync)(fd);
}
