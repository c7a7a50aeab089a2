/*
 * PID 1 of the guest: mounts, loads modules, runs the agent, reaps orphans, and powers the machine off when the agent
 * is gone.
 *
 * It stays this small so that whatever happens to the agent (killed, out of memory), the host still hears a reason and
 * the machine stops.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define FAILURE_PORT "/dev/ttyS1"
#define FAILURE_PIECE 16 /* larger writes have been seen to hang the port */
#define CONSOLE "/dev/hvc0"
#define LOG "/dev/hvc2"
#define MODULE_LIST "/etc/avf/modules"
#define DEBUGGABLE "/etc/avf/debuggable"

static int debuggable;

static void report(const char *format, ...)
{
	char text[256] = "MICRODROID_UNKNOWN_RUNTIME_ERROR|";
	size_t used = strlen(text);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + used, sizeof text - used, format, arguments);
	va_end(arguments);
	dprintf(STDERR_FILENO, "init: %s\n", text + used);
	for (size_t at = 0, size = strlen(text); at < size; at += FAILURE_PIECE) {
		int port = open(FAILURE_PORT, O_WRONLY | O_NOCTTY);
		size_t left = size - at;

		if (port < 0)
			return;
		if (write(port, text + at, left < FAILURE_PIECE ? left : FAILURE_PIECE) < 0)
			at = size;
		tcdrain(port);
		close(port);
	}
}

static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void must(int result, const char *what)
{
	if (result < 0) {
		report("%s: %s", what, strerror(errno));
		power_off();
	}
}

static void mount_at(const char *type, const char *target, unsigned long flags, const char *options)
{
	mkdir(target, 0755);
	must(mount(type, target, type, flags, options), target);
}

static void mount_all(void)
{
	mount_at("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755");
	mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
	mount_at("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_at("tmpfs", "/data", MS_NOSUID | MS_NODEV, "mode=0771,size=128m");
	mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	mkdir("/dev/socket", 0755);
	must(symlink("/proc/self/fd", "/dev/fd"), "/dev/fd");
}

static int is_populated(const char *directory)
{
	DIR *entries = opendir(directory);
	struct dirent *entry;
	int found = 0;

	while (entries && !found && (entry = readdir(entries)))
		found = entry->d_name[0] != '.';
	if (entries)
		closedir(entries);
	return found;
}

/* A line of the list is "BUS PATH" with BUS one of: any, pci (only of use where a PCI bus has devices). */
static void load_modules(void)
{
	FILE *list = fopen(MODULE_LIST, "re");
	char bus[8], path[256];
	int has_pci = is_populated("/sys/bus/pci/devices");

	must(list ? 0 : -1, MODULE_LIST);
	while (fscanf(list, "%7s %255s", bus, path) == 2) {
		int module;

		if (!strcmp(bus, "pci") && !has_pci)
			continue;
		module = open(path, O_RDONLY | O_CLOEXEC);
		must(module, path);
		if (syscall(SYS_finit_module, module, "", 0) < 0 && errno != EEXIST)
			must(-1, path);
		close(module);
	}
	fclose(list);
}

static void write_kernel_log(int console)
{
	static char log[1 << 18];
	int size = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof log);

	for (int at = 0, done; at < size; at += done) {
		done = write(console, log + at, size - at);
		if (done <= 0)
			return;
	}
}

/* Ports of the virtio console appear once the host's end has answered. Raw: what is written must arrive as it is. */
static int open_port(const char *path)
{
	for (int tries = 0; tries < 500; tries++) {
		int port = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
		struct termios mode;

		if (port >= 0) {
			if (tcgetattr(port, &mode) == 0) {
				cfmakeraw(&mode);
				tcsetattr(port, TCSANOW, &mode);
			}
			return port;
		}
		usleep(1000);
	}
	return -1;
}

/* What the agent and the payload print goes to the log port of a debuggable guest, and nowhere else. */
static void set_up_stdio(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int output = null;

	must(null, "/dev/null");
	if (debuggable) {
		int console = open_port(CONSOLE);
		int log = open_port(LOG);

		if (console >= 0) {
			write_kernel_log(console);
			close(console);
			klogctl(8 /* SYSLOG_ACTION_CONSOLE_LEVEL */, NULL, 7);
		}
		if (log >= 0)
			output = log;
	}
	dup2(null, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
}

static void set_up_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock >= 0) {
		ioctl(sock, SIOCSIFFLAGS, &request);
		close(sock);
	}
}

static pid_t start_agent(void)
{
	static char *const command[] = {
		"/usr/bin/python3", "-I", "-S", "-X", "utf8", "/usr/lib/avf/agent.pyc", NULL,
	};
	static char *const environment[] = { "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/", "TERM=linux", NULL };
	pid_t pid = fork();

	if (pid == 0) {
		execve(command[0], command, environment);
		report("cannot run %s: %s", command[0], strerror(errno));
		_exit(0);
	}
	must(pid, "fork");
	return pid;
}

static void wait_for_agent(pid_t agent)
{
	int status = 0;
	pid_t ended;

	do
		ended = waitpid(-1, &status, 0);
	while (ended != agent && (ended > 0 || errno == EINTR));
	if (WIFSIGNALED(status))
		report("the agent was killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		report("the agent exited with status %d", WEXITSTATUS(status));
}

int main(void)
{
	umask(0);
	mount_all();
	umask(022);
	debuggable = access(DEBUGGABLE, F_OK) == 0;
	if (!debuggable)
		klogctl(6 /* SYSLOG_ACTION_CONSOLE_OFF */, NULL, 0);
	load_modules();
	set_up_stdio();
	set_up_loopback();
	must(sethostname("microdroid", 10), "sethostname");
	wait_for_agent(start_agent());
	power_off();
}
