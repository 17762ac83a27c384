mod offsets;
