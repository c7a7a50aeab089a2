// A native payload in C++: the same as hello.c.
#include <exception>
#include <filesystem>
#include <iostream>
#include <set>

#include "vm_payload.h"

static void list(const std::filesystem::path &folder)
{
	std::set<std::filesystem::path> names;

	for (const auto &entry : std::filesystem::directory_iterator(folder))
		names.insert(entry.path());
	for (const auto &name : names)
		std::cout << name.native() << '\n';
}

// No exception may leave it: whoever calls it knows C only.
int AVmPayload_main()
{
	std::cout << "Hello from a C++ payload!" << std::endl;
	AVmPayload_notifyPayloadReady();
	try {
		list(AVmPayload_getApkContentsPath());
	} catch (const std::exception &error) {
		std::cerr << error.what() << '\n';
		return 1;
	}
	return 0;
}
