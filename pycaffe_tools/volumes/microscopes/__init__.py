"""What electron microscopes write: MRC, DigitalMicrograph, SER, EMD."""
