package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// parseJSON reads JSON with // and /* */ comments. A key given twice in one
// object is kept as two entries; [parser.dedupe] decides about those.
func (p *parser) parseJSON(data []byte) (*node, error) {
	data, err := blankComments(data)
	if err != nil {
		return nil, err
	}
	r := &jsonReader{parser: p, data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1}
	r.dec.UseNumber()
	tok, err := r.next()
	if errors.Is(err, io.EOF) {
		return nil, &Error{Line: 1, Text: "the file is empty"}
	} else if err != nil {
		return nil, err
	}
	root, err := r.value(tok, 0)
	if err != nil {
		return nil, err
	}
	if tok, err := r.next(); err == nil {
		return nil, &Error{Line: r.line, Text: fmt.Sprintf("%v follows the end of the configuration", tok)}
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return root, nil
}

// blankComments overwrites comments outside strings with blanks, so that every
// byte that stays keeps its line.
func blankComments(data []byte) ([]byte, error) {
	out := bytes.Clone(data)
	line := 1
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '\n':
			line++
		case out[i] == '"':
			for i++; i < len(out) && out[i] != '"' && out[i] != '\n'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
			if i < len(out) && out[i] == '\n' {
				line++
			}
		case bytes.HasPrefix(out[i:], []byte("//")):
			for ; i < len(out) && out[i] != '\n'; i++ {
				out[i] = ' '
			}
			line++
		case bytes.HasPrefix(out[i:], []byte("/*")):
			length := bytes.Index(out[i+2:], []byte("*/"))
			if length < 0 {
				return nil, &Error{Line: line, Text: "a comment opened with /* is never closed"}
			}
			for end := i + length + 4; i < end; i++ {
				if out[i] == '\n' {
					line++
				} else {
					out[i] = ' '
				}
			}
			i--
		}
	}
	return out, nil
}

// jsonReader turns the tokens of encoding/json into nodes that know their line.
type jsonReader struct {
	*parser
	data []byte
	dec  *json.Decoder
	line int   // of the last token
	seen int64 // bytes whose newlines are counted in line
}

// next returns the next token, and sets r.line to where it ends. No JSON token
// spans lines, so that is where it begins, too.
func (r *jsonReader) next() (json.Token, error) {
	tok, err := r.dec.Token()
	upto := r.dec.InputOffset()
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		upto = max(upto, min(syntax.Offset-1, int64(len(r.data))))
	}
	if upto > r.seen {
		r.line += bytes.Count(r.data[r.seen:upto], []byte("\n"))
		r.seen = upto
	}
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return tok, err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, &Error{Line: r.line, Text: "the file ends in the middle of a value"}
	default:
		return nil, &Error{Line: r.line, Text: "not valid JSON: " + strings.TrimPrefix(err.Error(), "json: ")}
	}
}

// value builds the node that begins with tok.
func (r *jsonReader) value(tok json.Token, depth int) (*node, error) {
	n := &node{line: r.line}
	if err := r.count(r.line, depth); err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case nil:
		n.kind = nullNode
	case bool:
		n.kind, n.text = boolNode, fmt.Sprint(tok)
	case json.Number:
		n.kind, n.text = numberNode, tok.String()
	case string:
		n.kind, n.text = stringNode, tok
	case json.Delim:
		if tok == '[' {
			n.kind = listNode
			return n, r.list(n, depth)
		}
		n.kind = objectNode
		return n, r.object(n, depth)
	}
	return n, nil
}

func (r *jsonReader) list(n *node, depth int) error {
	for {
		tok, err := r.inside()
		if err != nil {
			return err
		}
		if tok == json.Delim(']') {
			return nil
		}
		item, err := r.value(tok, depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
}

func (r *jsonReader) object(n *node, depth int) error {
	for {
		tok, err := r.inside()
		if err != nil {
			return err
		}
		key, ok := tok.(string)
		if !ok { // the decoder lets only a key or the end stand here
			return nil
		}
		e := entry{key: key, line: r.line}
		if tok, err = r.inside(); err != nil {
			return err
		}
		if e.value, err = r.value(tok, depth+1); err != nil {
			return err
		}
		n.entries = append(n.entries, e)
	}
}

// inside is next where the file may not end.
func (r *jsonReader) inside() (json.Token, error) {
	tok, err := r.next()
	if errors.Is(err, io.EOF) {
		return nil, &Error{Line: r.line, Text: "the file ends in the middle of a value"}
	}
	return tok, err
}
