/* A kernel of a few hundred bytes, for a VMM that starts ELF files in 64-bit mode as Linux is started.

   It writes its parameters and the start of its initial ramdisk to ttyS0, then ends as its first parameter says. */
#include <stdint.h>

enum { SERIAL = 0x3f8, PCI_ADDRESS = 0xcf8, PCI_DATA = 0xcfc, KEYBOARD = 0x64 };
enum { PVPANIC = 0x00111b36, FUNCTIONS = 256, VENDOR = 0, BAR0 = 0x10 };
enum { PRESENT = 1, WRITABLE = 2, HUGE = 0x80 };

static void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "d"(port)); }
static void out16(uint16_t port, uint16_t value) { __asm__ volatile("outw %0, %1" : : "a"(value), "d"(port)); }
static void out32(uint16_t port, uint32_t value) { __asm__ volatile("outl %0, %1" : : "a"(value), "d"(port)); }
static uint32_t in32(uint16_t port) {
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "d"(port));
    return value;
}
static void print(const char *text, uint32_t size) {
    while (size--) out8(SERIAL, *text++);
}
static uint32_t pci(uint32_t device, uint32_t reg) {
    out32(PCI_ADDRESS, 0x80000000 | device << 11 | reg);
    return in32(PCI_DATA);
}

static uint64_t tables[6][512] __attribute__((aligned(4096)));

/* Maps the first 4 GiB as they are. */
static void map(void) {
    for (int i = 0; i < 2048; i++) tables[2 + i / 512][i % 512] = (uint64_t)i << 21 | HUGE | WRITABLE | PRESENT;
    for (int i = 0; i < 4; i++) tables[1][i] = (uint64_t)tables[2 + i] | WRITABLE | PRESENT;
    tables[0][0] = (uint64_t)tables[1] | WRITABLE | PRESENT;
    __asm__ volatile("mov %0, %%cr3" : : "r"(tables) : "memory");
}
static void panic(void) {
    map();
    for (uint32_t device = 0; device < FUNCTIONS; device++)
        if (pci(device, VENDOR) == PVPANIC) *(volatile uint8_t *)(uint64_t)(pci(device, BAR0) & ~15u) = 1;
}
/* Where the ACPI control register is would be in a table; other ports take no harm. */
static void power_off(void) {
    for (uint32_t port = 0xc000; port < 0x10000; port += 2) out16(port, 0x2000);
}

__attribute__((section(".start"))) void _start(void) {
    const uint8_t *boot;
    __asm__ volatile("mov %%rsi, %0" : "=r"(boot));
    const char *params = (const char *)(uint64_t)*(const uint32_t *)(boot + 0x228);
    uint32_t length = 0;
    while (params[length]) length++;
    print(params, length);
    print("|", 1);
    print((const char *)(uint64_t)*(const uint32_t *)(boot + 0x218), *(const uint32_t *)(boot + 0x21c));
    print("\n", 1);
    for (uint32_t i = 0; i < length; i++) {
        if (params[i] == '!') panic();
        if (params[i] == '.') power_off();
        if (params[i] == '^') out8(KEYBOARD, 0xfe);
    }
    for (;;) __asm__ volatile("hlt");
}
