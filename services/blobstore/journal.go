package blobstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/berth-registry/berth/registry"
)

// JournalDriver is the part of a [Driver] that keeps the objects of a
// [registry.Journal]. Names are valid ones.
type JournalDriver interface {
	// AddObject adds an object and returns when it is durable. One of that name that
	// is there already is [fs.ErrExist], and stays as it is.
	AddObject(ctx context.Context, name string, content []byte) error
	// ReadObject returns an object, or [fs.ErrNotExist].
	ReadObject(ctx context.Context, name string) ([]byte, error)
	// Objects lists at most limit names behind after, in byte order.
	Objects(ctx context.Context, after string, limit int) ([]string, error)
	// RemoveObject removes an object. No such object is no error.
	RemoveObject(ctx context.Context, name string) error
}

// What an object begins with: a line with the hash of what follows.
const (
	sealPrefix = "berth journal sha256:"
	sealLen    = len(sealPrefix) + 2*sha256.Size + 1
)

func seal(content []byte) []byte {
	sum := sha256.Sum256(content)
	return append([]byte(sealPrefix+hex.EncodeToString(sum[:])+"\n"), content...)
}

func unseal(name string, object []byte) ([]byte, error) {
	if len(object) < sealLen || !bytes.Equal(seal(object[sealLen:])[:sealLen], object[:sealLen]) {
		return nil, registry.ErrDigestInvalid.Because(fmt.Errorf("object %s of the journal does not match its checksum", name))
	}
	return object[sealLen:], nil
}

// AppendJournal implements [registry.Journal].
func (s *Store) AppendJournal(ctx context.Context, name string, content []byte) error {
	p, err := s.pool(ctx, "")
	if err == nil {
		err = p.writable()
	}
	if err != nil {
		return err
	}
	if !registry.IsJournalName(name) || len(content) > registry.MaxJournalObject {
		return registry.ErrSizeInvalid.With("an object of the journal has a name of 1 to 120 characters and at most %d bytes", registry.MaxJournalObject)
	}
	call := p.calls.Begin()
	err = p.driver.AddObject(ctx, name, seal(content))
	p.calls.End(call)
	if !errors.Is(err, fs.ErrExist) {
		return p.failed(err)
	}
	old, err := s.ReadJournal(ctx, name)
	if err == nil && bytes.Equal(old, content) {
		return nil // the answer to an earlier call was lost
	}
	return registry.ErrPreconditionFailed.Because(errors.Join(fmt.Errorf("the journal has another object %s", name), err))
}

// ReadJournal implements [registry.Journal].
func (s *Store) ReadJournal(ctx context.Context, name string) ([]byte, error) {
	p, err := s.pool(ctx, "")
	if err != nil {
		return nil, err
	}
	if !registry.IsJournalName(name) {
		return nil, registry.ErrBlobUnknown
	}
	object, err := p.driver.ReadObject(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, registry.ErrBlobUnknown.Because(fmt.Errorf("the journal has no object %s", name))
	}
	if err != nil {
		return nil, p.failed(err)
	}
	return unseal(name, object)
}

// ListJournal implements [registry.Journal].
func (s *Store) ListJournal(ctx context.Context, after string, limit int) ([]string, error) {
	p, err := s.pool(ctx, "")
	if err != nil {
		return nil, err
	}
	names, err := p.driver.Objects(ctx, after, min(max(limit, 1), 1000))
	return names, p.failed(err)
}

// RemoveJournal implements [registry.Journal].
func (s *Store) RemoveJournal(ctx context.Context, name string) error {
	p, err := s.pool(ctx, "")
	if err != nil || !registry.IsJournalName(name) {
		return err
	}
	return p.failed(p.driver.RemoveObject(ctx, name))
}
