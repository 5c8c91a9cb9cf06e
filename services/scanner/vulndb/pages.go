package vulndb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// pages reads the structure of a file of bbolt (page.go and meta.go of go.etcd.io/bbolt
// 1.5). bbolt itself believes a file: a page that refers to itself has it run for ever, and
// a length sends it outside. So this comes first.
type pages struct {
	r     io.ReaderAt
	size  int64 // of a page
	count int64 // of pages
	seen  []uint64
}

// Lengths of the parts of a page, and what its flags say.
const (
	pageHead   = 16
	bucketHead = 16
	elementLen = 16
	metaLen    = 64

	branchPage = 1
	leafPage   = 2
	aBucket    = 1 // of an element of a leaf

	maxDepth  = 32       // of a tree
	maxKey    = 32 << 10 // bytes; of bbolt
	maxValue  = 4 << 20  // bytes; an advisory has some hundreds, and is decoded
	maxLeaf   = 4 * maxValue
	maxBranch = 1 << 20 // bytes; it is kept while what is below it is read
)

var order = binary.NativeEndian // bbolt's files are as the machine has numbers

// checkPages returns an error if a file of bbolt is not what it should be.
func checkPages(r io.ReaderAt, length int64) error {
	m, err := newestMeta(r)
	if err != nil {
		return err
	}
	if m.size < 512 || m.size > 64<<10 || m.size&(m.size-1) != 0 {
		return fmt.Errorf("it has pages of %d bytes", m.size)
	}
	p := &pages{r: r, size: m.size, count: length / m.size}
	p.seen = make([]uint64, p.count/64+1)
	return p.tree(m.root, 0, 0)
}

type meta struct {
	size       int64
	root, txid uint64
}

// newestMeta returns the head of the file that counts: the newer of those two that are
// whole. The second is at the beginning of the second page. Where heads do not agree on
// where that is, bbolt might read other pages than are checked.
func newestMeta(r io.ReaderAt) (best meta, err error) {
	found, agree := false, true
	try := func(at int64) {
		b := make([]byte, pageHead+metaLen)
		if _, err := r.ReadAt(b, at); err != nil {
			return
		}
		b = b[pageHead:]
		h := fnv.New64a()
		_, _ = h.Write(b[:56]) // a hash, see hash.Hash
		if order.Uint32(b) != 0xED0CDAED || order.Uint32(b[4:]) != 2 || order.Uint64(b[56:]) != h.Sum64() {
			return
		}
		m := meta{int64(order.Uint32(b[8:])), order.Uint64(b[16:]), order.Uint64(b[48:])}
		agree = agree && (at == 0 || m.size == at) && (!found || m.size == best.size)
		if !found || m.txid > best.txid {
			best = m
		}
		found = true
	}
	try(0)
	if found {
		try(best.size)
	} else {
		for at := int64(1024); at <= 64<<10 && !found; at *= 2 {
			try(at)
		}
	}
	if !found {
		return best, errors.New("it has no head")
	}
	if !agree {
		return best, errors.New("its heads do not agree on the size of pages")
	}
	return best, nil
}

// once notes that n pages are used from page id on, each of which may be once.
func (p *pages) once(id uint64, n int64) error {
	if id < 2 || n > p.count || id >= uint64(p.count) || int64(id)+n > p.count { //nolint:gosec // id is below count
		return fmt.Errorf("page %d of %d", id, p.count)
	}
	for i := id; i < id+uint64(n); i++ { //nolint:gosec // n is positive
		if p.seen[i/64]&(1<<(i%64)) != 0 {
			return fmt.Errorf("page %d is used twice", i)
		}
		p.seen[i/64] |= 1 << (i % 64)
	}
	return nil
}

// tree checks the pages of a bucket from page id on.
func (p *pages) tree(id uint64, depth, bucket int) error {
	if depth > maxDepth {
		return fmt.Errorf("a tree is more than %d deep", maxDepth)
	}
	head := make([]byte, pageHead)
	if id >= uint64(p.count) {
		return fmt.Errorf("page %d of %d", id, p.count)
	}
	if _, err := p.r.ReadAt(head, int64(id)*p.size); err != nil { //nolint:gosec // checked
		return err
	}
	more := int64(order.Uint32(head[12:]))
	if err := p.once(id, 1+more); err != nil {
		return err
	}
	most := int64(maxLeaf)
	if order.Uint16(head[8:]) == branchPage {
		most = maxBranch
	}
	if (1+more)*p.size > most {
		return fmt.Errorf("a page of %d bytes", (1+more)*p.size)
	}
	b := make([]byte, (1+more)*p.size)
	if _, err := p.r.ReadAt(b, int64(id)*p.size); err != nil { //nolint:gosec // checked
		return err
	}
	if order.Uint64(b) != id {
		return fmt.Errorf("page %d says it is page %d", id, order.Uint64(b))
	}
	return p.page(b, depth, bucket)
}

// page checks the elements of a page.
func (p *pages) page(b []byte, depth, bucket int) error {
	flags, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if flags != branchPage && flags != leafPage {
		return fmt.Errorf("a page of kind %d", flags)
	}
	if pageHead+count*elementLen > len(b) {
		return fmt.Errorf("a page of %d bytes with %d elements", len(b), count)
	}
	if flags == branchPage && count == 0 {
		return errors.New("a branch without elements")
	}
	end := int64(pageHead + count*elementLen) // of what was before
	for i := range count {
		begin := int64(pageHead + i*elementLen)
		e := b[begin:]
		if flags == branchPage {
			if int64(order.Uint32(e))+int64(order.Uint32(e[4:])) > int64(len(e)) {
				return errors.New("a key outside its page")
			}
			if err := p.tree(order.Uint64(e[8:]), depth+1, bucket); err != nil {
				return err
			}
			continue
		}
		at, key, value := int64(order.Uint32(e[4:])), int64(order.Uint32(e[8:])), int64(order.Uint32(e[12:]))
		if at+key+value > int64(len(e)) {
			return errors.New("a value outside its page")
		}
		// In each other they could be 65535 in each of 65535, and so on.
		if begin+at < end {
			return errors.New("a value in another one")
		}
		end = begin + at + key + value
		if key > maxKey {
			return fmt.Errorf("a key of %d bytes", key)
		}
		if order.Uint32(e)&aBucket != 0 {
			if err := p.bucket(e[at+key:at+key+value], depth, bucket+1); err != nil {
				return err
			}
		} else if value > maxValue {
			return fmt.Errorf("a value of %d bytes", value)
		}
	}
	return nil
}

// bucket checks a bucket in another: a reference to its first page, or that page itself.
func (p *pages) bucket(b []byte, depth, bucket int) error {
	if bucket > 8 {
		return errors.New("its buckets lie in each other more than 8 deep")
	}
	if len(b) < bucketHead {
		return fmt.Errorf("a bucket of %d bytes", len(b))
	}
	if root := order.Uint64(b); root != 0 {
		return p.tree(root, 0, bucket)
	}
	if len(b) < bucketHead+pageHead {
		return fmt.Errorf("a bucket of %d bytes", len(b))
	}
	if order.Uint16(b[bucketHead+8:]) != leafPage {
		return errors.New("a small bucket is no leaf")
	}
	return p.page(b[bucketHead:], depth, bucket)
}
