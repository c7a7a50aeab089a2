/* PID 1 of a raw guest: loads its modules, connects to the host, sends its text, powers off. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TEXT "HelloWorld"
enum { PORT = 45678 };

int main(void)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = PORT };
	char path[32];
	int fd;

	for (int i = 0; snprintf(path, sizeof path, "/modules/%02d", i), (fd = open(path, O_RDONLY)) >= 0; i++) {
		if (syscall(SYS_finit_module, fd, "", 0))
			perror(path);
		close(fd);
	}
	fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&host, sizeof host))
		perror("connect");
	else if (write(fd, TEXT, strlen(TEXT)) < 0)
		perror("write");
	else if (shutdown(fd, SHUT_WR) || read(fd, path, sizeof path))
		perror("shutdown");
	reboot(RB_POWER_OFF);
	return 0;
}
