module github.com/cheggaaa/pb/v3

go 1.26.0
