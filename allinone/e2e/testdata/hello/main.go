// Hello is the program in the images that the client matrix pushes.
package main

import (
	"fmt"
	"runtime"
)

func main() { fmt.Println("hello from", runtime.GOARCH) }
