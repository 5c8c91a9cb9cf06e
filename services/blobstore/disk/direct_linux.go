package disk

import (
	"os"
	"syscall"
)

func (s system) openDirect(name string) (directWriter, error) {
	f, err := s.open(name, os.O_WRONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	return f, nil
}
