//! Numbers and texts as bytes: little-endian, texts with their length before them.

/// Appends to a buffer.
pub(crate) trait Put {
    fn u8(&mut self, v: u8);
    fn u32(&mut self, v: u32);
    fn u64(&mut self, v: u64);
    fn f64(&mut self, v: f64);
    fn bytes(&mut self, v: &[u8]);
    fn text(&mut self, v: &str) {
        self.bytes(v.as_bytes());
    }
    fn f32s(&mut self, v: &[f32]);
    fn f64s(&mut self, v: &[f64]);
    fn option(&mut self, v: Option<u64>) {
        self.u8(u8::from(v.is_some()));
        self.u64(v.unwrap_or(0));
    }
}

impl Put for Vec<u8> {
    fn u8(&mut self, v: u8) {
        self.push(v);
    }
    fn u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn f64(&mut self, v: f64) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn bytes(&mut self, v: &[u8]) {
        self.u32(v.len() as u32);
        self.extend_from_slice(v);
    }
    fn f32s(&mut self, v: &[f32]) {
        self.u32(v.len() as u32);
        v.iter().for_each(|v| self.extend_from_slice(&v.to_le_bytes()));
    }
    fn f64s(&mut self, v: &[f64]) {
        self.u32(v.len() as u32);
        v.iter().for_each(|v| self.extend_from_slice(&v.to_le_bytes()));
    }
}

/// Reads from a buffer; `None` where it ends too early or holds something else.
pub(crate) struct Get<'a>(pub &'a [u8]);

impl<'a> Get<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    pub fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub fn f64(&mut self) -> Option<f64> {
        self.array().map(f64::from_le_bytes)
    }
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()? as usize;
        self.take(n)
    }
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
    pub fn f32s(&mut self) -> Option<Vec<f32>> {
        let n = self.u32()? as usize;
        let (chunks, _) = self.take(n.checked_mul(4)?)?.as_chunks::<4>();
        Some(chunks.iter().map(|&c| f32::from_le_bytes(c)).collect())
    }
    pub fn f64s(&mut self) -> Option<Vec<f64>> {
        let n = self.u32()? as usize;
        let (chunks, _) = self.take(n.checked_mul(8)?)?.as_chunks::<8>();
        Some(chunks.iter().map(|&c| f64::from_le_bytes(c)).collect())
    }
    pub fn option(&mut self) -> Option<Option<u64>> {
        let is = self.u8()?;
        let v = self.u64()?;
        (is <= 1).then_some((is == 1).then_some(v))
    }
    /// True at the end.
    pub fn done(&self) -> bool {
        self.0.is_empty()
    }
}
