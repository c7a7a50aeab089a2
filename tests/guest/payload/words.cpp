// A payload in C++: counts words in threads, and has something thrown from one library function to another.
#include <atomic>
#include <iostream>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "vm_payload.h"

extern "C" int AVmPayload_main(void)
{
	std::atomic<int> words{0};
	std::vector<std::thread> threads;
	for (int i = 0; i < 4; i++)
		threads.emplace_back([&words] {
			std::istringstream text("one two three");
			for (std::string word; text >> word;)
				words++;
		});
	for (auto &thread : threads)
		thread.join();
	std::map<std::string, int> found{{"words", words}};
	try {
		found.at("lines");
	} catch (const std::out_of_range &error) {
		std::cout << "caught " << std::regex_replace(error.what(), std::regex(":.*"), "") << std::endl;
	}
	std::cout << found["words"] << " words" << std::endl;
	return found["words"];
}
