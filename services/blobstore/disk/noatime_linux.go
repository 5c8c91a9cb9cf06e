package disk

import "syscall"

// noATime keeps the time of the last access of a file as it is. Only the owner of
// a file, and root, may ask for it.
const noATime = syscall.O_NOATIME
