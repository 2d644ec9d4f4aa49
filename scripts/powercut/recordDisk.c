/* Loaded before a program's own libraries: writes down what the program does to the files below the directory
   POWERCUT_DIRECTORY, and what it says on its standard output, in one order, into the file POWERCUT_LOG.

   A record is 25 bytes, little-endian, and a payload: kind (1), inode (8), place (8), length of the payload (8). Kinds:
   c  the file was created; payload: its path      o  it was opened and cut to nothing
   w  the payload was written at the place         t  it was cut, or made longer, to the place
   s  all of the file is on the disk               r  the payload's place and length are: 8 bytes
   S  a directory is                               n  renamed: two paths, a zero byte between
   u  removed; payload: its path                   m  a directory was made; payload: its path
   p  the payload was said                         x  room was taken, which nobody replays */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void put(const void *bytes, size_t size) {
  static int file = -1;
  if (file < 0) file = syscall(SYS_openat, AT_FDCWD, getenv("POWERCUT_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  for (size_t done = 0; done < size;) {
    ssize_t wrote = syscall(SYS_write, file, (const char *)bytes + done, size - done);
    if (wrote < 0) abort();
    done += wrote;
  }
}

static void record(char kind, uint64_t inode, uint64_t at, const void *bytes, uint64_t size) {
  char head[25];
  head[0] = kind;
  memcpy(head + 1, &inode, 8);
  memcpy(head + 9, &at, 8);
  memcpy(head + 17, &size, 8);
  put(head, sizeof head);
  put(bytes, size);
}

static int is_ours(const char *path) {
  const char *directory = getenv("POWERCUT_DIRECTORY");
  return directory != NULL && path != NULL && strncmp(path, directory, strlen(directory)) == 0;
}

static int is_file(int fd, struct stat *found) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 1) return 0;
  path[length] = 0;
  return is_ours(path) && fstat(fd, found) == 0;
}

/* -- opening ---------------------------------------------------------------------------------------------------------- */

static int opened(int (*open_next)(const char *, int, ...), const char *path, int flags, mode_t mode) {
  struct stat found;
  if (!is_ours(path) || (flags & O_ACCMODE) == O_RDONLY) return open_next(path, flags, mode);
  pthread_mutex_lock(&lock);
  int is_new = stat(path, &found) != 0;
  int fd = open_next(path, flags, mode);
  if (fd >= 0 && fstat(fd, &found) == 0) {
    if (is_new) record('c', found.st_ino, 0, path, strlen(path));
    else if (flags & O_TRUNC) record('o', found.st_ino, 0, NULL, 0);
  }
  pthread_mutex_unlock(&lock);
  return fd;
}

#define OPEN(name)                                                  \
  int name(const char *path, int flags, ...) {                      \
    va_list rest;                                                   \
    va_start(rest, flags);                                          \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                   \
    return opened((int (*)(const char *, int, ...))NEXT(name), path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

/* -- writing ---------------------------------------------------------------------------------------------------------- */

/* After a write of `size` bytes at `at`, from these parts. */
static void wrote(int fd, const struct stat *found, const struct iovec *parts, off64_t at, ssize_t size) {
  uint64_t place = at, length = size;
  for (int part = 0; size > 0; part++) {
    size_t here = parts[part].iov_len < (size_t)size ? parts[part].iov_len : (size_t)size;
    record('w', found->st_ino, at, parts[part].iov_base, here);
    at += here;
    size -= here;
  }
  if (fcntl(fd, F_GETFL) & O_DSYNC) record('r', found->st_ino, place, &length, 8);
}

static off64_t place_of(int fd, const struct stat *found) {
  return fcntl(fd, F_GETFL) & O_APPEND ? found->st_size : lseek64(fd, 0, SEEK_CUR);
}

#define RECORDED(place, parts, operation)                           \
  struct stat found;                                                \
  if (!is_file(fd, &found)) return operation;                       \
  pthread_mutex_lock(&lock);                                        \
  fstat(fd, &found);                                                \
  off64_t from = place;                                             \
  ssize_t done = operation;                                         \
  if (done > 0) wrote(fd, &found, parts, from, done);               \
  pthread_mutex_unlock(&lock);                                      \
  return done;

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
  struct iovec part = {(void *)bytes, size};
  RECORDED(at, &part, NEXT(pwrite)(fd, bytes, size, at))
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  struct iovec part = {(void *)bytes, size};
  RECORDED(at, &part, NEXT(pwrite64)(fd, bytes, size, at))
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  RECORDED(at, parts, NEXT(pwritev)(fd, parts, count, at))
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
  RECORDED(at, parts, NEXT(pwritev64)(fd, parts, count, at))
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  RECORDED(place_of(fd, &found), parts, NEXT(writev)(fd, parts, count))
}
ssize_t write(int fd, const void *bytes, size_t size) {
  struct iovec part = {(void *)bytes, size};
  if (fd == 1) {
    pthread_mutex_lock(&lock);
    record('p', 0, 0, bytes, size);
    pthread_mutex_unlock(&lock);
  }
  RECORDED(place_of(fd, &found), &part, NEXT(write)(fd, bytes, size))
}

/* -- what else is done to a file -------------------------------------------------------------------------------------- */

/* `kind` is recorded when the operation succeeded. */
#define DONE(kind, at, operation)                                   \
  struct stat found;                                                \
  if (!is_file(fd, &found)) return operation;                       \
  pthread_mutex_lock(&lock);                                        \
  int done = operation;                                             \
  if (done == 0) record(kind, found.st_ino, at, NULL, 0);           \
  pthread_mutex_unlock(&lock);                                      \
  return done;

int fdatasync(int fd) { DONE(S_ISDIR(found.st_mode) ? 'S' : 's', 0, NEXT(fdatasync)(fd)) }
int fsync(int fd) { DONE(S_ISDIR(found.st_mode) ? 'S' : 's', 0, NEXT(fsync)(fd)) }
int ftruncate(int fd, off_t size) { DONE('t', size, NEXT(ftruncate)(fd, size)) }
int ftruncate64(int fd, off64_t size) { DONE('t', size, NEXT(ftruncate64)(fd, size)) }
int fallocate(int fd, int mode, off_t at, off_t size) { DONE('x', 0, NEXT(fallocate)(fd, mode, at, size)) }
int fallocate64(int fd, int mode, off64_t at, off64_t size) { DONE('x', 0, NEXT(fallocate64)(fd, mode, at, size)) }

/* -- names ------------------------------------------------------------------------------------------------------------ */

#define NAMED(kind, path, operation)                                \
  if (!is_ours(path)) return operation;                             \
  pthread_mutex_lock(&lock);                                        \
  int done = operation;                                             \
  if (done == 0) record(kind, 0, 0, path, strlen(path));            \
  pthread_mutex_unlock(&lock);                                      \
  return done;

int mkdir(const char *path, mode_t mode) { NAMED('m', path, NEXT(mkdir)(path, mode)) }
int unlink(const char *path) { NAMED('u', path, NEXT(unlink)(path)) }
int rmdir(const char *path) { NAMED('u', path, NEXT(rmdir)(path)) }
int rename(const char *from, const char *to) {
  char both[8192];
  if (!is_ours(from)) return NEXT(rename)(from, to);
  pthread_mutex_lock(&lock);
  int done = NEXT(rename)(from, to);
  int length = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
  if (done == 0) record('n', 0, 0, both, length);
  pthread_mutex_unlock(&lock);
  return done;
}
