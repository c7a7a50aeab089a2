/* A native payload: says hello, says that it is ready, lists what its APK brought along. */
#include <dirent.h>
#include <stdio.h>

#include "vm_payload.h"

int AVmPayload_main(void)
{
	const char *path = AVmPayload_getApkContentsPath();
	DIR *contents = opendir(path);
	struct dirent *entry;

	printf("Hello from a native payload!\n");
	AVmPayload_notifyPayloadReady();
	if (contents == NULL)
		return 1;
	while ((entry = readdir(contents)) != NULL)
		if (entry->d_name[0] != '.')
			printf("%s/%s\n", path, entry->d_name);
	closedir(contents);
	return 0;
}
