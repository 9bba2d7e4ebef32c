/* The one function of bcryptprimitives.dll that Rust's std calls, for Wine 8, which lacks the library. */
#include <windows.h>

/* RtlGenRandom under its exported name; takes at most 64 KiB here, so that no call is large. */
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length)
{
    while (length > 0) {
        ULONG part = length > 0x10000 ? 0x10000 : (ULONG)length;
        if (!SystemFunction036(buffer, part))
            return FALSE;
        buffer += part;
        length -= part;
    }
    return TRUE;
}
