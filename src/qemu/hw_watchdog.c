/* SPDX-License-Identifier: MIT */
/* A hardware watchdog by the kernel's own interface; see hw_watchdog.h. */
#include "qemu/hw_watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Whether it can be stopped again is asked before it is opened, which starts it. */
static int check_stops(const char *path, struct gw__error *error)
{
	char name[80], answer = 0;
	struct stat st;
	if (stat(path, &st))
		return gw__error_errno(error, errno, "%s", path);
	snprintf(name, sizeof name, "/sys/dev/char/%u:%u/nowayout", major(st.st_rdev), minor(st.st_rdev));
	int fd = S_ISCHR(st.st_mode) ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n = fd < 0 ? 0 : read(fd, &answer, 1);
	if (fd >= 0)
		close(fd);
	if (n != 1)
		return gw__error_set(error, -EOPNOTSUPP, "%s is not a watchdog; name one as /dev/watchdogN", path);
	if (answer != '0')
		return gw__error_set(error, -EOPNOTSUPP,
			"%s cannot be stopped once it runs (nowayout), so this host would be reset when its guest is not protected any more",
			path);
	return 0;
}

bool gw__hw_watchdog_arm(int fd, unsigned seconds)
{
	int s = (int)seconds, on = WDIOS_ENABLECARD;
	if (ioctl(fd, WDIOC_SETTIMEOUT, &s) || s <= 0 || (unsigned)s > seconds)
		return false;
	return !ioctl(fd, WDIOC_SETOPTIONS, &on) && write(fd, "", 1) == 1;
}

void gw__hw_watchdog_disarm(int fd)
{
	int off = WDIOS_DISABLECARD;
	ioctl(fd, WDIOC_SETOPTIONS, &off);
}

int gw__hw_watchdog_open(const char *path, struct gw__error *error)
{
	struct watchdog_info info = {0};
	int off = WDIOS_DISABLECARD, r = check_stops(path, error);
	if (r)
		return r;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		return gw__error_set(error, -EBUSY, "%s is used by another program; a watchdog resets the host for one guest alone", path);
	if (fd < 0)
		return gw__error_errno(error, errno, "%s", path);
	if (!ioctl(fd, WDIOC_GETSUPPORT, &info) && (info.options & WDIOF_SETTIMEOUT) && (info.options & WDIOF_MAGICCLOSE) &&
		!ioctl(fd, WDIOC_SETOPTIONS, &off))
		return fd;
	if (write(fd, "V", 1) != 1) {
		/* nothing more can be done: its own time-out counts from here */
	}
	close(fd);
	return gw__error_set(error, -EOPNOTSUPP, "%s takes no time-out, or cannot be stopped: it cannot end a guest in time", path);
}
