"""Your own documents as passages: Markdown, plain text, HTML, PDF, DOCX and JSON lines."""

from seal.domains.documents.folder import Documents, File, Passage, Refused, read_documents

__all__ = ["Documents", "File", "Passage", "Refused", "read_documents"]
