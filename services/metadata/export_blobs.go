package metadata

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

// ExportedBlobs reads from the parts of an export, in their order, which blobs it
// names.
type ExportedBlobs struct {
	columns map[string]int // of table blobs; nil while another table's rows come
}

// ExportedBlob is a blob of an export.
type ExportedBlob struct {
	registry.Stored
	// Live says that nothing had begun to remove it.
	Live bool
}

// Part calls each for each blob with a copy that the next part names.
func (x *ExportedBlobs) Part(part []byte, each func(ExportedBlob) error) error {
	gz, err := gzip.NewReader(bytes.NewReader(part))
	if err != nil {
		return fmt.Errorf("%w: %w", errExport, err)
	}
	lines := bufio.NewScanner(gz)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		line := lines.Bytes()
		if line[0] != '[' {
			if err := x.head(line); err != nil {
				return err
			}
			continue
		}
		if x.columns == nil {
			continue
		}
		b, inline, err := x.row(line)
		if err != nil {
			return fmt.Errorf("%w: %w", errExport, err)
		}
		if inline {
			continue
		}
		if err := each(b); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errExport, err)
	}
	return nil
}

func (x *ExportedBlobs) head(line []byte) error {
	var h tableHeader
	if err := json.Unmarshal(line, &h); err != nil {
		return fmt.Errorf("%w: %w", errExport, err)
	}
	x.columns = nil
	if h.Table != "blobs" {
		return nil
	}
	x.columns = map[string]int{}
	for i, c := range h.Columns {
		x.columns[c] = i
	}
	for _, c := range []string{"pool:t", "digest:b", "size:i", "locator:t", "state:i", "inline:n"} {
		if _, ok := x.columns[c]; !ok {
			return fmt.Errorf("%w: its blobs have no column %s", errExport, c)
		}
	}
	return nil
}

func (x *ExportedBlobs) row(line []byte) (b ExportedBlob, inline bool, err error) {
	var row []json.RawMessage
	if err := json.Unmarshal(line, &row); err != nil {
		return b, false, err
	}
	if len(row) != len(x.columns) {
		return b, false, fmt.Errorf("a blob has %d columns", len(row))
	}
	var packed []byte
	state := 0
	for c, dest := range map[string]any{"pool:t": &b.Pool, "digest:b": &packed, "size:i": &b.Size, "locator:t": &b.Locator, "state:i": &state} {
		if err := json.Unmarshal(row[x.columns[c]], dest); err != nil {
			return b, false, err
		}
	}
	b.Live = state == 0
	b.Digest, err = unpack(packed)
	return b, string(row[x.columns["inline:n"]]) != "null", err
}
