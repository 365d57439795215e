package tracewatch

import (
	"encoding/binary"
	"encoding/hex"
)

// partitionOf returns the partition of a trace: murmur2 of the lowercase hex trace id, as
// Kafka's Java client places that key, so that one worker sees the whole trace.
func partitionOf(traceID []byte, partitions int) int {
	key := make([]byte, hex.EncodedLen(len(traceID)))
	hex.Encode(key, traceID)
	return int(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is MurmurHash2 (Austin Appleby) with the seed of Kafka's Utils.murmur2.
func murmur2(data []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
	)
	h := uint32(seed) ^ uint32(len(data))
	for len(data) >= 4 {
		k := binary.LittleEndian.Uint32(data) * m
		k ^= k >> 24
		h = h*m ^ k*m
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
