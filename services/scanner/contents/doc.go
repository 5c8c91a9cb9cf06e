// Package contents finds out what is in the layers of images: the operating system,
// its packages, and those of programming languages.
//
// It reads a layer once, as a stream, and writes nothing but one file at a time that
// has to be looked at in any order, which has no name. Names in a layer are names and
// nothing else: nothing is looked up by them on this machine.
package contents
