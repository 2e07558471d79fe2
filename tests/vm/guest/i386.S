/* A program of the other ABI: says who it is and ends well, by calls of 32-bit x86. */
    .globl _start
_start:
    movl $4, %eax           /* write(1, text, length) */
    movl $1, %ebx
    movl $text, %ecx
    movl $length, %edx
    int $0x80
    movl $1, %eax           /* exit(0) */
    xorl %ebx, %ebx
    int $0x80
text:
    .ascii "thirty-two bits\n"
    .set length, . - text
    .section .note.GNU-stack, "", @progbits
