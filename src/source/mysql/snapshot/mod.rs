mod key;
mod progress;
