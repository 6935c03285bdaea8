/* A disk whose flush takes OO_FLUSH_MS milliseconds (4 by default) and does nothing, for measurements only:
 * cc -O2 -shared -fPIC -o slow_flush.so slow_flush.c && LD_PRELOAD=./slow_flush.so oo-serve … */
#include <stdlib.h>
#include <time.h>

static int wait_for_the_disk(void) {
  const char *text = getenv("OO_FLUSH_MS");
  long us = (long)((text ? atof(text) : 4.0) * 1000.0);
  struct timespec left = {us / 1000000, us % 1000000 * 1000};
  while (nanosleep(&left, &left) != 0) {}
  return 0;
}

int fdatasync(int file) { (void)file; return wait_for_the_disk(); }
int fsync(int file) { (void)file; return wait_for_the_disk(); }
