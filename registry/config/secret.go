package config

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Secret is a password or key. It prints, logs and encodes as "(secret)"; turn
// it into a string where it is used and nowhere else.
type Secret string

const hidden = "(secret)"

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// maxSecret bounds a file that holds one secret.
const maxSecret = 64 << 10

// ReadSecret returns the secret that a key and its …File twin describe: the
// value itself, or the content of the file without its last line end. Files
// are read when the secret is needed, not by [Load]: a program need not be able
// to read the secrets of another one's section.
func ReadSecret(value Secret, file string) (Secret, error) {
	if file == "" {
		return value, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("reading a secret: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("reading a secret: %w", err)
	}
	if len(content) > maxSecret {
		return "", fmt.Errorf("reading a secret: %s is larger than %d bytes", file, maxSecret)
	}
	content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if len(content) == 0 {
		return "", fmt.Errorf("reading a secret: %s is empty", file)
	}
	return Secret(content), nil
}
