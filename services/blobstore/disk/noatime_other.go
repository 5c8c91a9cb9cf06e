//go:build !linux

package disk

const noATime = 0
