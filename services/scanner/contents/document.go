package contents

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"strings"
)

// deepest is how deep values of a document may lie in each other.
const deepest = 128

// document is a text of JSON that is read value by value, so that it never is in memory as
// a whole: a few bytes of text make many bytes of Go values.
type document struct {
	d     *json.Decoder
	depth int
}

func newDocument(r io.Reader) *document { return &document{d: json.NewDecoder(r)} }

func (d *document) token() (json.Token, error) {
	t, err := d.d.Token()
	switch t {
	case json.Delim('{'), json.Delim('['):
		if d.depth++; d.depth > deepest {
			return nil, damaged("values lie in each other more than %d deep", deepest)
		}
	case json.Delim('}'), json.Delim(']'):
		d.depth--
	}
	return t, err
}

// object calls f for each member of the object that comes next; f reads its value. null
// has none.
func (d *document) object(f func(key string) error) error {
	t, err := d.token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('{') {
		return damaged("%v where an object has to be", t)
	}
	for d.d.More() {
		key, err := d.token()
		if err != nil {
			return err
		}
		if err := f(key.(string)); err != nil { //nolint:forcetypeassert // others are errors
			return err
		}
	}
	_, err = d.token()
	return err
}

// array calls f for each value of the array that comes next; f reads it.
func (d *document) array(f func() error) error {
	t, err := d.token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('[') {
		return damaged("%v where an array has to be", t)
	}
	for d.d.More() {
		if err := f(); err != nil {
			return err
		}
	}
	_, err = d.token()
	return err
}

// value reads the next value, which it returns if it is a text or a truth value.
func (d *document) value() (json.Token, error) {
	outside := d.depth
	t, err := d.token()
	if err != nil || d.depth == outside {
		return t, err
	}
	for d.depth > outside {
		if _, err := d.token(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (d *document) skip() error { _, err := d.value(); return err }

// text reads the next value into s, if it is a text.
func (d *document) text(s *string) error {
	t, err := d.value()
	if v, ok := t.(string); ok {
		*s = v
	}
	return err
}

// flag reads the next value into b, if it is a truth value.
func (d *document) flag(b *bool) error {
	t, err := d.value()
	if v, ok := t.(bool); ok {
		*b = v
	}
	return err
}

// texts reads the members of the object that comes next which have one of the names, in
// any case, into fields.
func (d *document) texts(fields map[string]*string) error {
	return d.object(func(key string) error {
		if s := fields[strings.ToLower(key)]; s != nil {
			return d.text(s)
		}
		return d.skip()
	})
}

// elements calls f for each element of XML, with the names of those around it and its own.
func elements(r io.Reader, f func(path []string, e xml.StartElement) error) error {
	d := xml.NewDecoder(r)
	var path []string
	for {
		t, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := t.(type) {
		case xml.StartElement:
			if path = append(path, e.Name.Local); len(path) > deepest {
				return damaged("elements lie in each other more than %d deep", deepest)
			}
			if err := f(path, e); err != nil {
				return err
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
}
