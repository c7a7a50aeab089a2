/* Shows what a native payload sees of its guest. Exit code 7: everything could be asked. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "avf_payload.h"
#include "vm_payload.h"

static void show_secret(const char *name, void (*get)(const void *, size_t, void *, size_t))
{
	unsigned char secret[32];

	get("name", 4, secret, sizeof secret);
	printf("%s ", name);
	for (size_t i = 0; i < sizeof secret; i++)
		printf("%02x", secret[i]);
	printf("\n");
}

static void show_file(const char *path)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
		strcpy(text, strerror(errno));
	printf("file %s: %s\n", path, text);
	close(fd);
}

static void try_to_write(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	printf("write %s: %s\n", path, fd < 0 ? strerror(errno) : "ok");
	close(fd);
}

static void show_swap(void)
{
	char line[128], name[64] = "none";
	FILE *swaps = fopen("/proc/swaps", "r");

	fgets(line, sizeof line, swaps);
	fscanf(swaps, "%63s", name);
	fclose(swaps);
	printf("swap %s\n", name);
}

int AVmPayload_main(void)
{
	const char *storage = AVmPayload_getEncryptedStoragePath();

	printf("uid %d, contents %s, storage %s\n", getuid(), AVmPayload_getApkContentsPath(), storage ? storage : "none");
	AVmPayload_notifyPayloadReady();
	AVmPayload_notifyPayloadReady();
	show_secret("secret", AVmPayload_getVmInstanceSecret);
	show_secret("code secret", AvfPayload_getVmCodeSecret);
	show_file("/mnt/apk/assets/packed.txt");
	show_file("/mnt/apk/assets/absent");
	show_file("/mnt/extra-apk/0/assets/note.txt");
	try_to_write("/mnt/apk/new");
	try_to_write("/usr/new");
	try_to_write("/data/new");
	show_swap();
	return 7;
}
