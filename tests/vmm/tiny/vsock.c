/* A guest with a vsock driver and nothing else, polling, on PCI or virtio-mmio.

   It connects to port 2048 of the host, and resets the machine if it is refused. Else it greets, and from then on takes
   every connection and sends back what comes on it.
   What begins with '^' resets the machine; '?' has it execute what is no memory, which no hypervisor can. */
#include <stdint.h>

enum { SERIAL = 0x3f8, PCI_ADDRESS = 0xcf8, PCI_DATA = 0xcfc, KEYBOARD = 0x64 };
enum { VSOCK_PCI = 0x10531af4, CAPABILITY = 9, COMMON = 1, NOTIFY = 2, DEVICE = 4 };
enum { GED_RESET = 0xfea00202 /* of a microvm, which has no such controller */ };
enum { FUNCTIONS = 256, NOWHERE = 0xd0000000, FREE_ADDRESS = 0xe0000000 };
enum { MMIO = 0xfeb00000, MMIO_SIZE = 512, MMIO_COUNT = 24, MAGIC = 0x74726976, VSOCK = 19 };
enum { RX, TX, EVENT, QUEUES, SIZE = 8, ROOM = 4096, NEXT_IS_WRITABLE = 2 };
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST, STREAM = 1, HOST = 2, PORT = 2048, OWN_PORT = 1000 };

typedef volatile uint8_t *io8;
typedef volatile uint16_t *io16;
typedef volatile uint32_t *io32;

struct header {
    uint64_t from, to;
    uint32_t from_port, to_port, length;
    uint16_t type, op;
    uint32_t flags, allocated, forwarded;
} __attribute__((packed));

struct packet {
    struct header head;
    char data[ROOM];
} __attribute__((packed, aligned(64)));

static struct queue {
    struct { uint64_t address; uint32_t length; uint16_t flags, next; } slots[SIZE];
    volatile uint16_t available[2 + SIZE];
    volatile struct { uint16_t flags, index; struct { uint32_t slot, length; } ring[SIZE]; } used __attribute__((aligned(4)));
    struct packet packets[SIZE];
    uint16_t seen;
    io16 bell;
} __attribute__((aligned(4096))) queues[QUEUES];

static uint64_t cid;
static io8 common, notify, mmio;
static uint32_t multiplier;

static void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "d"(port)); }
static void out32(uint16_t port, uint32_t value) { __asm__ volatile("outl %0, %1" : : "a"(value), "d"(port)); }
static uint32_t in32(uint16_t port) {
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "d"(port));
    return value;
}
static void barrier(void) { __asm__ volatile("mfence" : : : "memory"); }
static void say(const char *text) {
    while (*text) out8(SERIAL, *text++);
}
static void __attribute__((noreturn)) end(const char *why) {
    say(why);
    out8(KEYBOARD, 0xfe);
    *(io8)GED_RESET = 0x42;
    for (;;) __asm__ volatile("hlt");
}

static uint32_t pci_read(uint32_t device, uint32_t reg) {
    out32(PCI_ADDRESS, 0x80000000 | device << 8 | reg);
    return in32(PCI_DATA);
}
static void pci_write(uint32_t device, uint32_t reg, uint32_t value) {
    out32(PCI_ADDRESS, 0x80000000 | device << 8 | reg);
    out32(PCI_DATA, value);
}

/* Where a base address register leads; it is given an address if no firmware has done so. */
static io8 window(uint32_t device, uint32_t number) {
    uint32_t reg = 0x10 + 4 * number, low = pci_read(device, reg);
    if (!(low & ~15u)) {
        pci_write(device, reg, FREE_ADDRESS + number * 0x100000);
        if (low & 4) pci_write(device, reg + 4, 0);
    } else if (low & 4 && pci_read(device, reg + 4)) {
        end("a window above 4 GiB\n");
    }
    return (io8)(uint64_t)(pci_read(device, reg) & ~15u);
}

/* VIRTIO 1.2, section 4.1.4: the structures are where the capabilities tell. */
static int find_on_pci(void) {
    uint32_t device = 0;
    while (pci_read(device, 0) != VSOCK_PCI)
        if (++device == FUNCTIONS) return 0;
    for (uint32_t at = pci_read(device, 0x34) & 0xff; at; at = pci_read(device, at) >> 8 & 0xff) {
        uint32_t head = pci_read(device, at), kind = head >> 24;
        if ((head & 0xff) != CAPABILITY || (kind != COMMON && kind != NOTIFY && kind != DEVICE)) continue;
        io8 place = window(device, pci_read(device, at + 4) & 0xff) + pci_read(device, at + 8);
        if (kind == COMMON) common = place;
        if (kind == DEVICE) cid = (uint64_t)place;
        if (kind == NOTIFY) {
            notify = place;
            multiplier = pci_read(device, at + 16);
        }
    }
    pci_write(device, 4, 6); /* memory, bus master */
    cid = *(volatile uint64_t *)cid;
    return 1;
}

static int find_on_mmio(void) {
    for (uint64_t at = MMIO; at < MMIO + MMIO_COUNT * MMIO_SIZE; at += MMIO_SIZE)
        if (((io32)at)[0] == MAGIC && ((io32)at)[2] == VSOCK) mmio = (io8)at;
    if (mmio) cid = *(io32)(mmio + 0x100);
    return mmio != 0;
}

static void reg32(uint32_t offset, uint32_t value) { *(io32)(mmio + offset) = value; }

static void set_status(uint8_t status) {
    if (mmio) reg32(0x70, status);
    else common[20] = status;
}
/* Of the features, VERSION_1 alone. */
static void set_features(void) {
    for (uint32_t word = 0; word < 2; word++) {
        if (mmio) {
            reg32(0x24, word);
            reg32(0x20, word);
        } else {
            *(io32)(common + 8) = word;
            *(io32)(common + 12) = word;
        }
    }
}
static void set_up(uint16_t number) {
    struct queue *queue = &queues[number];
    uint64_t parts[] = {(uint64_t)queue->slots, (uint64_t)queue->available, (uint64_t)&queue->used};
    queue->available[0] = 1; /* no interrupts */
    if (mmio) {
        reg32(0x30, number);
        reg32(0x38, SIZE);
        for (int i = 0; i < 3; i++) {
            reg32(0x80 + 0x10 * i, parts[i]);
            reg32(0x84 + 0x10 * i, 0);
        }
        reg32(0x44, 1);
        return;
    }
    *(io16)(common + 22) = number;
    *(io16)(common + 24) = SIZE;
    for (int i = 0; i < 3; i++) {
        *(io32)(common + 32 + 8 * i) = parts[i];
        *(io32)(common + 36 + 8 * i) = 0;
    }
    queue->bell = (io16)(notify + multiplier * *(io16)(common + 30));
    *(io16)(common + 28) = 1;
}

static void offer(uint16_t number, uint16_t slot, uint32_t length, uint16_t flags) {
    struct queue *queue = &queues[number];
    queue->slots[slot].address = (uint64_t)&queue->packets[slot];
    queue->slots[slot].length = length;
    queue->slots[slot].flags = flags;
    queue->available[2 + queue->available[1] % SIZE] = slot;
    barrier();
    queue->available[1]++;
    barrier();
    if (mmio) reg32(0x50, number);
    else *queue->bell = number;
}
static uint16_t taken(uint16_t number) {
    struct queue *queue = &queues[number];
    while (queue->used.index == queue->seen) __asm__ volatile("pause");
    barrier();
    return queue->used.ring[queue->seen++ % SIZE].slot;
}

static void send(uint32_t from_port, uint32_t to_port, uint16_t op, const char *data, uint32_t length) {
    struct packet *packet = &queues[TX].packets[0];
    packet->head = (struct header){cid, HOST, from_port, to_port, length, STREAM, op, 0, 1 << 20, 0};
    for (uint32_t i = 0; i < length; i++) packet->data[i] = data[i];
    offer(TX, 0, sizeof packet->head + length, 0);
    taken(TX);
}
static void answer(const struct packet *packet) {
    const struct header *head = &packet->head;
    uint32_t mine = head->to_port, other = head->from_port;
    if (head->op == RST && mine == OWN_PORT) end("refused\n");
    if (head->op == REQUEST) send(mine, other, RESPONSE, 0, 0);
    if (head->op == RESPONSE) send(mine, other, RW, "hello\n", 6);
    if (head->op == CREDIT_REQUEST) send(mine, other, CREDIT_UPDATE, 0, 0);
    if (head->op == SHUTDOWN) send(mine, other, RST, 0, 0);
    if (head->op == RW && packet->data[0] == '?') ((void (*)(void))(uint64_t)NOWHERE)();
    if (head->op == RW && packet->data[0] == '^') end("^\n");
    if (head->op == RW) send(mine, other, RW, packet->data, head->length);
}

void serve(void) {
    if (!find_on_pci() && !find_on_mmio()) end("no vsock device\n");
    set_status(0);
    set_status(3); /* acknowledged, with a driver */
    set_features();
    set_status(11);
    for (uint16_t number = 0; number < QUEUES; number++) set_up(number);
    set_status(15);
    for (uint16_t slot = 0; slot < SIZE; slot++) offer(RX, slot, sizeof(struct packet), NEXT_IS_WRITABLE);
    send(OWN_PORT, PORT, REQUEST, 0, 0);
    for (;;) {
        uint16_t slot = taken(RX);
        answer(&queues[RX].packets[slot]);
        offer(RX, slot, sizeof(struct packet), NEXT_IS_WRITABLE);
    }
}
