/* Firmware that copies itself to memory, gets into 64-bit mode with the first 4 GiB mapped as they are, and calls serve(). */
#define BASE 0xfffff000 /* where .boot lies, in the last of 16 pages */
#define ROM 0xffff0000
#define RAM 0x100000
#define STACK 0x400000
#define TABLES 0x10000

.section .boot, "ax"
boot:
.code16
real:
    cli
    lgdtl %cs:0xf000 + gdtr - boot
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $BASE + protected - boot
.code32
protected:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    cld
    mov $ROM, %esi
    mov $RAM, %edi
    mov $0xf000 / 4, %ecx
    rep movsl
    mov $TABLES, %edi /* one page of level 4, one of level 3, four of level 2 */
    xor %eax, %eax
    mov $6 * 1024, %ecx
    rep stosl
    movl $TABLES + 0x1003, TABLES
    mov $TABLES + 0x2003, %eax
    mov $TABLES + 0x1000, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 1b
    mov $0x83, %eax
    mov $TABLES + 0x2000, %edi
    mov $2048, %ecx
1:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b
    mov $TABLES, %eax
    mov %eax, %cr3
    mov $0x20, %eax /* PAE */
    mov %eax, %cr4
    mov $0xc0000080, %ecx /* EFER.LME */
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    ljmp $24, $BASE + long - boot
.code64
long:
    mov $STACK, %esp
    mov $serve, %eax
    jmp *%rax
.balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdtr:
    .word gdtr - gdt - 1
    .long BASE + gdt - boot

.org 0xff0
.code16
    jmp real
.org 0x1000
.section .note.GNU-stack, "", @progbits
