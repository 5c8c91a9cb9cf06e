package e2e

import (
	"fmt"
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
)

// tagCall is an operation on a tag, as a client asked for it.
type tagCall struct {
	tag  string
	kind string // get, put, delete or swap
	old  string // of swap: the digest that the tag must have
	new  string // of put and swap
}

// tagAnswer is what the client was told. Of an operation whose answer got lost
// nothing is known: it may have happened, may happen later, or never.
type tagAnswer struct {
	lost  bool
	found bool   // of delete: there was such a tag; of swap: it had the old digest
	value string // of get, "" for no tag
}

// tagModel is a tag as a register that holds a digest, "" if there is no tag.
var tagModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byTag := map[string][]porcupine.Operation{}
		for _, op := range history {
			tag := op.Input.(tagCall).tag
			byTag[tag] = append(byTag[tag], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byTag {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(string), input.(tagCall), output.(tagAnswer)
		switch in.kind {
		case "get":
			return out.value == now, now
		case "put":
			return true, in.new
		case "delete":
			return out.lost || out.found == (now != ""), ""
		}
		if now == in.old {
			return out.lost || out.found, in.new
		}
		return out.lost || !out.found, now
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// TestTagModel checks histories that a registry may and may not show.
func TestTagModel(t *testing.T) {
	op := func(client int, call, ret int64, in tagCall, out tagAnswer) porcupine.Operation {
		in.tag = "t"
		return porcupine.Operation{ClientId: client, Call: call, Return: ret, Input: in, Output: out}
	}
	put := func(v string) tagCall { return tagCall{kind: "put", new: v} }
	get, remove := tagCall{kind: "get"}, tagCall{kind: "delete"}
	is := func(v string) tagAnswer { return tagAnswer{value: v} }
	yes, no, lost := tagAnswer{found: true}, tagAnswer{}, tagAnswer{lost: true}
	for name, test := range map[string]struct {
		history []porcupine.Operation
		well    bool
	}{
		"read what was put":               {[]porcupine.Operation{op(0, 0, 1, put("a"), yes), op(1, 2, 3, get, is("a"))}, true},
		"a stale read":                    {[]porcupine.Operation{op(0, 0, 1, put("a"), yes), op(0, 2, 3, put("b"), yes), op(1, 4, 5, get, is("a"))}, false},
		"an acknowledged put is lost":     {[]porcupine.Operation{op(0, 0, 1, put("a"), yes), op(1, 2, 3, get, is(""))}, false},
		"of two at a time either is last": {[]porcupine.Operation{op(0, 0, 9, put("a"), yes), op(1, 0, 9, put("b"), yes), op(1, 10, 11, get, is("a"))}, true},
		"a lost put happens late":         {[]porcupine.Operation{op(0, 0, math.MaxInt64, put("a"), lost), op(1, 2, 3, get, is("")), op(1, 4, 5, get, is("a"))}, true},
		"a lost put happens twice": {[]porcupine.Operation{op(0, 0, math.MaxInt64, put("a"), lost), op(1, 2, 3, get, is("a")),
			op(1, 4, 5, put("b"), yes), op(1, 6, 7, get, is("a"))}, false},
		"a deleted tag comes back": {[]porcupine.Operation{op(0, 0, 1, put("a"), yes), op(0, 2, 3, remove, yes), op(1, 4, 5, get, is("a"))}, false},
		"deleting nothing":         {[]porcupine.Operation{op(0, 0, 1, remove, no), op(0, 2, 3, put("a"), yes), op(0, 4, 5, remove, yes)}, true},
		"two swaps of one value": {[]porcupine.Operation{op(0, 0, 1, put("a"), yes), op(0, 2, 9, tagCall{kind: "swap", old: "a", new: "b"}, yes),
			op(1, 2, 9, tagCall{kind: "swap", old: "a", new: "c"}, yes)}, false},
		"one of two swaps": {[]porcupine.Operation{op(0, 0, 1, put("a"), yes), op(0, 2, 9, tagCall{kind: "swap", old: "a", new: "b"}, yes),
			op(1, 2, 9, tagCall{kind: "swap", old: "a", new: "c"}, no)}, true},
	} {
		if got := porcupine.CheckOperations(tagModel, test.history); got != test.well {
			t.Errorf("%s: linearizable: %v, want %v", name, got, test.well)
		}
	}
}
