// Package glob matches repository names and tags against the patterns of a
// config file.
//
// A pattern matches a whole name:
//
//   - any characters but a slash
//     **     as a whole part between slashes: any number of parts, also none
//     ?      one character, no slash
//     [a-z]  one of these characters, no slash; [^a-z] and [!a-z]: one of all others
//     {a,b}  one of these patterns
//     \x     the character x
//
// That is what zot's patterns mean. Matching takes time that is linear in the
// length of the name, whatever the pattern.
package glob

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxPattern is how many bytes a pattern may have.
const MaxPattern = 1024

// Pattern is a compiled pattern. It may be used by many goroutines.
type Pattern struct {
	text string
	kind kind
	re   *regexp.Regexp // of any other kind than the plain ones
	need string         // what each name has in it that re matches
}

// kind is how a pattern is matched: the usual ones need no regular expression.
type kind uint8

const (
	complicated kind = iota
	literal          // a name
	below            // a name, followed by /**
	everything       // **
)

// meta are the characters that mean something else than themselves.
const meta = "*?[{}\\"

// kindOf returns the kind of a pattern.
func kindOf(text string) kind {
	base, tree := strings.CutSuffix(text, "/**")
	switch {
	case text == "**":
		return everything
	case !strings.ContainsAny(text, meta):
		return literal
	case tree && base != "" && !strings.ContainsAny(base, meta):
		return below
	}
	return complicated
}

// Compile returns the pattern that text describes.
func Compile(text string) (*Pattern, error) {
	if text == "" {
		return nil, errors.New("an empty pattern matches nothing")
	}
	if len(text) > MaxPattern {
		return nil, fmt.Errorf("a pattern has at most %d bytes", MaxPattern)
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("a pattern is UTF-8")
	}
	if k := kindOf(text); k != complicated {
		return &Pattern{text: text, kind: k}, nil
	}
	re, err := expression(text)
	if err != nil {
		return nil, err
	}
	return &Pattern{text: text, re: re, need: needOf(text)}, nil
}

// expression returns the regular expression that matches what a pattern matches.
func expression(text string) (*regexp.Regexp, error) {
	t := translator{rest: text, start: true}
	t.out.WriteString(`\A(?s:`)
	if err := t.run(); err != nil {
		return nil, err
	}
	t.out.WriteString(`)\z`)
	re, err := regexp.Compile(t.out.String())
	if err != nil {
		return nil, fmt.Errorf("not a pattern: %w", err)
	}
	return re, nil
}

// Match reports whether the pattern matches all of name.
func (p *Pattern) Match(name string) bool {
	if p.kind != complicated {
		return p.kind.match(p.text, name)
	}
	return strings.Contains(name, p.need) && p.re.MatchString(name)
}

// needOf returns the longest text that all names have in them which a well-formed
// pattern matches. Looking for it is much faster than a regular expression.
func needOf(text string) string {
	longest := ""
	for _, s := range needsOf(text) {
		if len(s) > len(longest) {
			longest = s
		}
	}
	return longest
}

// Needs returns texts that all names have in them which the pattern matches. None for
// patterns that are no more than what [Pattern.Prefix] says, or that name nothing.
func (p *Pattern) Needs() []string {
	if p.kind != complicated {
		return nil
	}
	return needsOf(p.text)
}

func needsOf(text string) (all []string) {
	run, depth := 0, 0
	end := func(i int) {
		// A slash beside ** may be missing.
		if s := strings.Trim(text[run:i], "/"); depth == 0 && s != "" {
			all = append(all, s)
		}
	}
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			end(i)
			i++
		case '[':
			end(i)
			for i++; i < len(text) && text[i] != ']'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{':
			end(i)
			depth++
		case '}':
			depth--
		case '*', '?':
			end(i)
		default:
			continue
		}
		run = min(i+1, len(text))
	}
	end(len(text))
	return all
}

// match matches a pattern of a plain kind.
func (k kind) match(text, name string) bool {
	switch k {
	case everything:
		return true
	case below:
		rest, ok := strings.CutPrefix(name, strings.TrimSuffix(text, "/**"))
		return ok && (rest == "" || rest[0] == '/')
	}
	return text == name
}

// Match reports whether the pattern text matches all of name; a malformed one
// matches nothing. It costs no more than comparing if text is a name, a name
// followed by /**, or **.
func Match(text, name string) bool {
	if k := kindOf(text); k != complicated && text != "" && len(text) <= MaxPattern {
		return k.match(text, name)
	}
	p, err := Compile(text)
	return err == nil && p.Match(name)
}

// Prefix returns what all names begin with that the pattern matches.
func (p *Pattern) Prefix() string {
	prefix := p.text
	if i := strings.IndexAny(prefix, meta); i >= 0 {
		prefix = prefix[:i]
	}
	if strings.HasPrefix(p.text[len(prefix):], "**") {
		prefix = strings.TrimSuffix(prefix, "/") // which /** may match, too
	}
	return prefix
}

// FixedPart returns what of a pattern's text is before its first special character, in
// whole components: all of it if there is none, or else up to the last slash, as zot has
// it for prefixes of mirrors.
func FixedPart(text string) string {
	i := strings.IndexAny(text, "*?[{")
	if i < 0 {
		return text
	}
	return strings.TrimSuffix(text[:strings.LastIndexByte(text[:i], '/')+1], "/")
}

// String returns the text that was compiled.
func (p *Pattern) String() string { return p.text }

// Set is a list of patterns, of which one has to match.
type Set []*Pattern

// CompileAll returns the set of all texts.
func CompileAll(texts []string) (Set, error) {
	set := make(Set, len(texts))
	for i, text := range texts {
		p, err := Compile(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		set[i] = p
	}
	return set, nil
}

// Match reports whether one of the patterns matches name.
func (s Set) Match(name string) bool {
	return slices.ContainsFunc(s, func(p *Pattern) bool { return p.Match(name) })
}

// Find returns the first pattern that matches name, nil if none does.
func (s Set) Find(name string) *Pattern {
	if i := slices.IndexFunc(s, func(p *Pattern) bool { return p.Match(name) }); i >= 0 {
		return s[i]
	}
	return nil
}

// translator writes a pattern as a regular expression.
type translator struct {
	rest  string
	out   strings.Builder
	start bool   // a part of the name begins here
	open  []bool // for each open brace, whether one began there
}

func (t *translator) run() error {
	for t.rest != "" {
		if err := t.next(); err != nil {
			return err
		}
	}
	if len(t.open) > 0 {
		return errors.New("a brace is not closed")
	}
	return nil
}

// next translates the pattern's next element.
func (t *translator) next() error {
	start := t.start
	t.start = false
	switch c := t.rest[0]; c {
	case '/':
		if after, ok := strings.CutPrefix(t.rest, "/**"); ok && t.ends(after) {
			t.write(len("/**"), `(?:/.*)?`)
			return nil
		}
		t.start = true
		t.write(1, `/`)
	case '*':
		t.stars(start)
	case '?':
		t.write(1, `[^/]`)
	case '[':
		return t.class()
	case '{':
		t.open = append(t.open, start)
		t.start = start
		t.write(1, `(?:`)
	case ',', '}':
		return t.brace(c)
	case '\\':
		if len(t.rest) == 1 {
			return errors.New("nothing follows a backslash")
		}
		t.rest = t.rest[1:]
		t.literal()
	default:
		t.literal()
	}
	return nil
}

// ends reports whether a part of the name ends before rest.
func (t *translator) ends(rest string) bool {
	return rest == "" || len(t.open) > 0 && (rest[0] == ',' || rest[0] == '}')
}

func (t *translator) stars(start bool) {
	n := len(t.rest) - len(strings.TrimLeft(t.rest, "*"))
	after := t.rest[n:]
	switch {
	case start && n == 2 && t.ends(after):
		t.write(n, `.*`)
	case start && n == 2 && after[0] == '/':
		t.start = true
		t.write(n+1, `(?:.*/)?`)
	default:
		t.write(n, `[^/]*`)
	}
}

// brace translates what divides or ends alternatives.
func (t *translator) brace(c byte) error {
	last := len(t.open) - 1
	switch {
	case last < 0 && c == '}':
		return errors.New("a brace is closed that is not open")
	case last < 0:
		t.literal()
	case c == ',':
		t.start = t.open[last]
		t.write(1, `|`)
	default:
		t.open = t.open[:last]
		t.write(1, `)`)
	}
	return nil
}

func (t *translator) class() error {
	body := t.rest[1:]
	negated := body != "" && (body[0] == '^' || body[0] == '!')
	if negated {
		body = body[1:]
	}
	end := -1
	for i := 0; i < len(body) && end < 0; i++ {
		switch body[i] {
		case '\\':
			i++
		case ']':
			end = i
		}
	}
	if end < 1 {
		return errors.New("a bracket is not closed, or there is nothing in it")
	}
	in := body[:end]
	if strings.Contains(in, "[") {
		in = strings.ReplaceAll(in, "[", `\[`) // no classes by name
	}
	t.out.WriteByte('[')
	if negated {
		t.out.WriteString(`^/`)
	}
	if in[0] == '^' {
		t.out.WriteByte('\\')
	}
	t.out.WriteString(in + "]")
	t.rest = body[end+1:]
	return nil
}

// literal takes one character as it is.
func (t *translator) literal() {
	for i := range t.rest {
		if i > 0 {
			t.write(i, regexp.QuoteMeta(t.rest[:i]))
			return
		}
	}
	t.write(len(t.rest), regexp.QuoteMeta(t.rest))
}

// write writes the translation of the next n bytes.
func (t *translator) write(n int, re string) {
	t.out.WriteString(re)
	t.rest = t.rest[n:]
}
